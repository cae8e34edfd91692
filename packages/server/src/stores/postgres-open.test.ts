import { deepStrictEqual, match, ok, rejects } from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { sql, type Kysely } from 'kysely';
import { databasePassword, leftOutWithoutPostgres } from '../../../../test/support/postgres.ts';
import { systemClock } from '../engine/clock.ts';
import { aDirectory } from '../testing/directory.ts';
import { postgresForTests, type PostgresForTests } from '../testing/postgres.ts';
import { aText, anAccept } from '../testing/turns.ts';
import * as first from './migrations/0001_conversations.ts';
import { migrate } from './migrate.ts';
import { connectPostgres, openPostgres } from './postgres.ts';
import { openStores } from './stores.ts';

const clock = systemClock;

/** One line, without the password. */
const oneLine = (pattern: RegExp) => (error: Error) => {
  match(error.message, pattern);
  ok(!error.message.includes('\n') && !error.message.includes(databasePassword), error.message);
  return true;
};

type Case = (t: TestContext, postgres: PostgresForTests) => Promise<void>;

const applied = async ({ server }: PostgresForTests, url: string) => {
  const rows = await server.ask<{ name: string }>('select name from kysely_migration', new URL(url).pathname.slice(1));
  return rows.map(({ name }) => name);
};

const cases: Readonly<Record<string, Case>> = {
  'of several that migrate at once one does, and the others go on': async (t, postgres) => {
    const url = await postgres.newDatabase('empty');
    const connections = [1, 2, 3, 4].map(() => connectPostgres(url));
    await Promise.all(connections.map((each) => migrate(each)));
    await Promise.all(connections.map((each) => each.destroy()));
    deepStrictEqual(await applied(postgres, url), [
      '0001_conversations',
      '0002_jobs',
      '0003_webhooks',
      '0004_nodes',
      '0005_kept_place',
    ]);
    const { turns } = postgres.open(t, url);
    await turns.accept(anAccept('c', 'default', [aText('a')]));
  },

  'a database of a newer version is refused in one line, also when it comes first while this one waits': async (
    _,
    postgres,
  ) => {
    const url = await postgres.newDatabase('empty');
    const [older, newer] = [connectPostgres(url), connectPostgres(url)];
    const waiting = Promise.withResolvers<void>();
    const future = {
      async up(db: Kysely<unknown>) {
        waiting.resolve();
        await sql`select pg_sleep(0.2)`.execute(db);
      },
    };
    const written = migrate(newer, { '0001_conversations': first, '9999_future': future });
    await waiting.promise;
    const refusal = oneLine(/written by a newer version of Sallyport: .*"9999_future"/);
    await rejects(migrate(older), refusal);
    await written;
    await rejects(openPostgres({ url, clock }), refusal);
    await Promise.all([older.destroy(), newer.destroy()]);
    deepStrictEqual(await applied(postgres, url), ['0001_conversations', '9999_future']);
  },

  'a migration that fails leaves nothing behind': async (_, postgres) => {
    const url = await postgres.newDatabase('empty');
    const connection = connectPostgres(url);
    const broken = {
      async up(db: Kysely<unknown>) {
        await db.schema.createTable('half').addColumn('id', 'text').execute();
        throw new Error('stopped half-way');
      },
    };
    await rejects(migrate(connection, { '0001_conversations': first, '0002_broken': broken }), /stopped half-way/);
    const { rows } = await sql`select tablename from pg_tables where schemaname = 'public'
      and tablename not like 'kysely%'`.execute(connection);
    deepStrictEqual(rows, []);
    await migrate(connection);
    await connection.destroy();
  },

  'several services share a database, each with a data directory of its own': async (t, postgres) => {
    const databaseUrl = await postgres.newDatabase('empty');
    const [one, other] = await Promise.all(
      [1, 2].map(() => openStores({ dataDir: aDirectory(t), databaseUrl, clock })),
    );
    const { ref, events } = await one!.turns.accept(anAccept('c', 'default', [aText('a')]));
    await one!.close();
    await rejects(one!.turns.append(ref, 1, [aText('b')]));
    deepStrictEqual(await other!.turns.read('default', 'c', 0, 10), events);
    await other!.close();
  },

  'what cannot be reached or used is told in one line without the password': async (_, postgres) => {
    const open = (url: string) => openPostgres({ url, clock });
    const url = await postgres.newDatabase('empty');
    const user = `postgres://sallyport:${databasePassword}`;
    await rejects(
      open(`${user}@127.0.0.1:1/db`),
      oneLine(/^cannot use the database at 127\.0\.0\.1:1\/db: .*ECONNREFUSED/),
    );
    await rejects(
      open(`${user}@localhost:1/db`),
      oneLine(/^cannot use the database at localhost:1\/db: .*ECONNREFUSED/),
    );
    await rejects(open(url.replace('/test_', '/no_')), oneLine(/database "no_\d+" does not exist/));
    await rejects(open(url.replace(databasePassword, 'wrong')), oneLine(/password authentication failed/));
    await postgres.server.ask(
      "create database ascii template template0 encoding 'SQL_ASCII' locale_provider libc locale 'C'",
    );
    await rejects(
      open(postgres.server.url('ascii')),
      oneLine(/it keeps text as SQL_ASCII; make one with the encoding UTF8$/),
    );
  },

  'closing does not wait for a server that does not answer': async (_, postgres) => {
    const url = await postgres.newDatabase('empty');
    const database = await openPostgres({ url, clock });
    await database.write((transaction) => sql`select 1`.execute(transaction));
    postgres.server.freeze();
    try {
      await database.close();
    } finally {
      postgres.server.thaw();
    }
  },
};

if (!leftOutWithoutPostgres('the opening of Postgres')) {
  const postgres = await postgresForTests();
  for (const [name, run] of Object.entries(cases)) void test(`postgres: ${name}`, (t) => run(t, postgres));
}
