import { after, type TestContext } from 'node:test';
import { startPostgres, type PostgresServer } from '../../../../test/support/postgres.ts';
import { systemClock } from '../engine/clock.ts';
import { migrate } from '../stores/migrate.ts';
import { connectPostgres, createPostgresDatabase, postgresBounds, type PostgresBounds } from '../stores/postgres.ts';
import { storesOf } from '../stores/stores.ts';
import type { KeptStores } from './all-stores.ts';

/** A server for the tests of a file, which goes with them, and databases on it. */
export interface PostgresForTests {
  readonly server: PostgresServer;
  /** Address of a new database, with the tables or without. */
  newDatabase(part?: 'empty'): Promise<string>;
  /** Takes every row out of a database but those it is made with. */
  clear(url: string): Promise<void>;
  /** Stores over a database, as one of several processes has them; closed after the test, or after all of them. */
  open(t: TestContext | null, url: string, bounds?: Partial<PostgresBounds>): KeptStores;
}

const withTables = 'with_tables';

/** No promise depends on how busy the machine is. */
const generous = {
  connections: 4,
  connectMs: 120_000,
  lockMs: 120_000,
  statementMs: 120_000,
  answerMs: 120_000,
  idleMs: 120_000,
  patienceMs: 120_000,
};

const clearing = `do $$ declare name text; begin
  for name in select tablename from pg_tables where schemaname = 'public' and tablename not like 'kysely%'
    and tablename not in ('key_secrets', 'turns', 'events', 'images', 'approvals', 'claims', 'audit_head')
  loop
    if name = 'keys' then delete from key_secrets; end if;
    execute format('delete from %I', name);
  end loop;
  insert into tenants (id, created_at) values ('default', 0);
  update audit_head set seq = 0, hash = repeat('0', 64);
end $$`;

/** Starts Postgres for the tests of this file. */
export async function postgresForTests(): Promise<PostgresForTests> {
  const server = await startPostgres();
  const closing: (() => Promise<void>)[] = [];
  after(async () => {
    for (const close of closing) await close();
    await server.close();
  });
  const tables = connectPostgres(await server.create(withTables));
  await migrate(tables);
  await tables.destroy();
  let made = 0;
  return {
    server,
    newDatabase: (part) => server.create(`test_${(made += 1)}`, part === 'empty' ? undefined : withTables),
    clear: async (url) => void (await server.ask(clearing, new URL(url).pathname.slice(1))),
    open(t, url, given = {}) {
      const bounds = { ...postgresBounds, ...generous, ...given };
      const connection = connectPostgres(url, bounds);
      const database = createPostgresDatabase({ connection, clock: systemClock, bounds });
      if (t === null) closing.push(() => database.close());
      else t.after(() => database.close());
      return storesOf(database, systemClock);
    },
  };
}
