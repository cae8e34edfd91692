import { deepStrictEqual, match, ok, rejects, strictEqual } from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { sql, type Kysely } from 'kysely';
import { chainStart, verifyChain } from '../engine/audit-chain.ts';
import { systemClock } from '../engine/clock.ts';
import { SallyportError } from '../engine/errors.ts';
import { storeContracts } from '../testing/all-stores.ts';
import { anEntry } from '../testing/audit-entries.ts';
import { aDirectory } from '../testing/directory.ts';
import { aText, anAccept, anEnd } from '../testing/turns.ts';
import { createDatabase } from './database.ts';
import { migrate } from './migrate.ts';
import { openSqlite } from './sqlite.ts';
import { openStores, type Stores } from './stores.ts';
import { createTurnStore } from './turns.ts';

const clock = systemClock;

async function makeSqlite(t: TestContext): Promise<Stores> {
  const stores = await openStores({ dataDir: aDirectory(t), clock });
  t.after(() => stores.close());
  return stores;
}

storeContracts(makeSqlite);

test('what was committed is there after a restart, under the same schema', async (t) => {
  const dataDir = join(aDirectory(t), 'made', 'here');
  const first = await openStores({ dataDir, clock });
  const { ref, events } = await first.turns.accept(anAccept('c', 'default', [aText('a')]));
  await first.close();
  const second = await openStores({ dataDir, clock });
  deepStrictEqual(await second.turns.read('default', 'c', 0, 10), events);
  await second.turns.append(ref, clock.now(), [aText('b')]);
  await second.close();
});

test('closing waits for the writes that were begun, and later ones are refused', async (t) => {
  const dataDir = aDirectory(t);
  const stores = await openStores({ dataDir, clock });
  const { ref } = await stores.turns.accept(anAccept('c'));
  const pending = Array.from({ length: 20 }, () => stores.turns.append(ref, clock.now(), [aText('a')]));
  await stores.close();
  await Promise.all(pending);
  await rejects(stores.turns.append(ref, clock.now(), [aText('b')]));
  await rejects(stores.turns.check());
  const again = await openStores({ dataDir, clock });
  strictEqual((await again.turns.read('default', 'c', 0, 100)).length, 20);
  await again.close();
});

test('a server killed at any moment has lost nothing it acknowledged', async (t) => {
  for (const acknowledged of [1, 40, 200]) {
    const dataDir = aDirectory(t);
    const child = spawn(process.execPath, [join(import.meta.dirname, '../testing/append-forever.ts'), dataDir], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {},
    });
    const exited = once(child, 'exit');
    t.after(() => child.kill('SIGKILL'));
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      output += chunk;
      if (output.split('\n').length > acknowledged) child.kill('SIGKILL');
    });
    await exited;
    const last = Number(output.split('\n').at(-2));
    ok(last >= acknowledged, `the child was killed after ${last}`);

    const stores = await openStores({ dataDir, clock });
    const events = await stores.turns.read('default', 'c', 0, 1_000_000);
    ok(events.length >= last, `${events.length} of ${last} events`);
    deepStrictEqual(
      events.map(({ seq }) => seq),
      events.map((_, index) => index + 1),
    );
    const entries = (await stores.transcripts.load({ tenant: 'default', session: 's', subpath: '' })) ?? [];
    deepStrictEqual(
      entries.slice(0, last).map((entry) => entry['uuid']),
      events.slice(0, last).map(({ seq }) => String(seq)),
    );
    const [unfinished] = await stores.turns.takeUnfinished('node-2');
    ok(unfinished);
    await stores.turns.finish(unfinished.turn.ref, { ...anEnd, state: 'interrupted' });
    await stores.close();
  }
});

test('what is changed in the database behind the audit log is found at its place, also after a restart', async (t) => {
  const dataDir = aDirectory(t);
  const lines = ['a', 'b', 'c', 'd'].map((name) => anEntry(name));
  const change = async (statement: string): Promise<number | null> => {
    const connection = openSqlite(join(dataDir, 'sallyport.db'));
    await sql.raw(statement).execute(connection);
    await connection.destroy();
    const { audit, close } = await openStores({ dataDir, clock });
    await audit.append([anEntry('more')]);
    const found = verifyChain(await audit.read(null, 0, 100), chainStart);
    await close();
    return found;
  };
  const { audit, close } = await openStores({ dataDir, clock });
  await audit.append(lines);
  await close();
  strictEqual(await change('select 1'), null);
  strictEqual(await change("update audit set turn = 'another' where seq = 4"), 4);
  strictEqual(await change('delete from audit where seq = 3'), 3);
  strictEqual(await change("update audit set details = '{}' where seq = 1"), 1);
});

test('a full disk is storage_full, keeps what was committed, and passes when there is room again', async (t) => {
  const connection = openSqlite(join(aDirectory(t), 'full.db'));
  const database = await createDatabase(connection);
  const turns = createTurnStore(database, clock);
  const { ref } = await turns.accept(anAccept('c'));
  const { rows } = await sql<{ page_count: number }>`pragma page_count`.execute(connection);
  await sql`pragma max_page_count = ${sql.lit(Number(rows[0]?.page_count) + 20)}`.execute(connection);
  const big = aText('x'.repeat(30_000));
  await turns.append(ref, clock.now(), [big]);
  const isFull = (error: unknown) => SallyportError.from(error).code === 'storage_full';
  await rejects(turns.append(ref, clock.now(), [aText('small'), big, big]), isFull);
  await rejects(turns.append(ref, clock.now(), [big, big, big]), isFull);
  deepStrictEqual(await turns.read('default', 'c', 1, 10), []);
  await sql`pragma max_page_count = 100000`.execute(connection);
  strictEqual((await turns.append(ref, clock.now(), [big, big]))[0]?.seq, 2);
  await turns.check();
  await database.close();
});

const mayMount = { skip: process.getuid?.() !== 0 };

/** Runs the work in a directory that holds so many kilobytes; false when such a one cannot be made here. */
async function onSmallDisk(directory: string, kilobytes: number, work: () => Promise<void>): Promise<boolean> {
  const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${kilobytes}k`, 'tmpfs', directory]);
  if (mount.status !== 0) return false;
  try {
    await work();
  } finally {
    strictEqual(spawnSync('umount', ['--lazy', directory]).status, 0);
  }
  return true;
}

test('a disk that fills up is storage_full, and what was acknowledged is kept', mayMount, async (t) => {
  const dataDir = aDirectory(t);
  const mounted = await onSmallDisk(dataDir, 700, async () => {
    const stores = await openStores({ dataDir, clock });
    const { ref } = await stores.turns.accept(anAccept('c'));
    const isFull = (error: unknown) => SallyportError.from(error).code === 'storage_full';
    let kept = 0;
    const fill = async () => {
      for (;;) kept = (await stores.turns.append(ref, clock.now(), [aText('x'.repeat(20_000))]))[0]?.seq ?? 0;
    };
    await rejects(fill(), isFull);
    await rejects(stores.turns.append(ref, clock.now(), [aText('x'.repeat(20_000))]), isFull);
    ok(kept > 0);
    strictEqual((await stores.turns.read('default', 'c', 0, 1000)).length, kept);
    await stores.close();
  });
  if (!mounted) t.skip('a file system cannot be mounted here');
});

test('a server that starts on a full disk says so in one line', mayMount, async (t) => {
  const dataDir = aDirectory(t);
  for (const kilobytes of [4, 8, 12, 24, 32, 48, 64]) {
    const mounted = await onSmallDisk(dataDir, kilobytes, () =>
      rejects(openStores({ dataDir, clock }), /^Error: [^\n]*(disk is full|no space left)[^\n]*$/),
    );
    if (!mounted) return t.skip('a file system cannot be mounted here');
  }
});

test('a store that cannot be written fails its check', async (t) => {
  const connection = openSqlite(join(aDirectory(t), 'readonly.db'));
  const database = await createDatabase(connection);
  const turns = createTurnStore(database, clock);
  await turns.check();
  await sql`pragma query_only = on`.execute(connection);
  await rejects(turns.check(), /readonly/);
  await database.close();
});

test('every commit is synced, and references are held', async (t) => {
  const connection = openSqlite(join(aDirectory(t), 'settings.db'));
  const pragma = async (name: string) => (await sql.raw(`pragma ${name}`).execute(connection)).rows;
  deepStrictEqual(await pragma('journal_mode'), [{ journal_mode: 'wal' }]);
  deepStrictEqual(await pragma('synchronous'), [{ synchronous: 2 }]);
  deepStrictEqual(await pragma('foreign_keys'), [{ foreign_keys: 1 }]);
  deepStrictEqual(await pragma('busy_timeout'), [{ timeout: 5000 }]);
  const database = await createDatabase(connection);
  // What is written without a wait changes that for itself alone, also when it fails.
  const level = async () => (await sql<{ synchronous: number }>`pragma synchronous`.execute(connection)).rows;
  const seen = await database.writeSoon(
    async (write) => (await sql<{ synchronous: number }>`pragma synchronous`.execute(write)).rows,
  );
  deepStrictEqual([seen, await level()], [[{ synchronous: 1 }], [{ synchronous: 2 }]]);
  await rejects(
    database.writeSoon(() => Promise.reject(new Error('boom'))),
    /boom/,
  );
  deepStrictEqual(await level(), [{ synchronous: 2 }]);
  await database.close();
});

test('a database of a newer version is refused in one line and left as it is', async (t) => {
  const dataDir = aDirectory(t);
  await (await openStores({ dataDir, clock })).close();
  const connection = openSqlite(join(dataDir, 'sallyport.db'));
  await sql`insert into kysely_migration values ('9999_future', '2099-01-01T00:00:00.000Z')`.execute(connection);
  await connection.destroy();
  for (let attempt = 0; attempt < 2; attempt += 1) {
    await rejects(openStores({ dataDir, clock }), (error: Error) => {
      match(error.message, /^the database was written by a newer version of Sallyport: .*"9999_future".*$/);
      return true;
    });
  }
});

test('a migration that fails leaves nothing behind', async (t) => {
  const connection = openSqlite(join(aDirectory(t), 'half.db'));
  const broken = {
    async up(db: Kysely<unknown>) {
      await db.schema.createTable('half').addColumn('id', 'text').execute();
      throw new Error('stopped half-way');
    },
  };
  await rejects(migrate(connection, { '0001_broken': broken }), /stopped half-way/);
  const { rows } = await sql`select name from sqlite_master where name = 'half'`.execute(connection);
  deepStrictEqual(rows, []);
  await migrate(connection);
  await connection.destroy();
});

test('a file that is no database is refused in one line', async (t) => {
  const dataDir = aDirectory(t);
  writeFileSync(join(dataDir, 'sallyport.db'), 'not a database, but long enough to be looked at '.repeat(50));
  await rejects(openStores({ dataDir, clock }), /^Error: cannot open the database .*sallyport\.db: .*not a database$/);
});

test('every file of the data directory is for its owner alone', async (t) => {
  const dataDir = join(aDirectory(t), 'data');
  const stores = await openStores({ dataDir, clock });
  await stores.turns.check();
  strictEqual(statSync(dataDir).mode & 0o777, 0o700);
  const names = readdirSync(dataDir);
  ok(names.includes('sallyport.db') && names.includes('sallyport.db-wal'));
  for (const name of names) strictEqual(statSync(join(dataDir, name)).mode & 0o077, 0, name);
  await stores.close();
});
