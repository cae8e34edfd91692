import { deepStrictEqual, ok, rejects, strictEqual } from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { leftOutWithoutPostgres } from '../../../../test/support/postgres.ts';
import { chainStart, verifyChain } from '../engine/audit-chain.ts';
import { systemClock } from '../engine/clock.ts';
import { SallyportError } from '../engine/errors.ts';
import { StaleEpochError, type TurnRef } from '../engine/ports.ts';
import { anEntry } from '../testing/audit-entries.ts';
import { losses, lossySocket } from '../testing/lossy-socket.ts';
import { postgresForTests, type PostgresForTests } from '../testing/postgres.ts';
import { aClaim, aNext, aText, anAccept, anEnd } from '../testing/turns.ts';
import { aCall } from '../testing/usage-store.ts';
import { storeError } from './postgres-errors.ts';
import { connectPostgres, createPostgresDatabase, postgresBounds, type PostgresBounds } from './postgres.ts';

const at = 1_700_000_001_500;
const isNotReady = (error: unknown) => {
  ok(error instanceof SallyportError, String(error));
  return error.code === 'not_ready';
};

/** Tries until it goes well. */
async function eventually<T>(work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof SallyportError) || error.code !== 'not_ready') throw error;
      await sleep(50);
    }
  }
}

type Case = (t: TestContext, postgres: PostgresForTests) => Promise<void>;

/** Stores that reach the database through a socket that loses commits. */
async function lossy(t: TestContext, postgres: PostgresForTests, bounds: Partial<PostgresBounds> = {}) {
  const name = new URL(await postgres.newDatabase()).pathname.slice(1);
  const socket = await lossySocket(t, postgres.server.socket);
  return { socket, stores: postgres.open(t, postgres.server.url(name, socket.directory), bounds) };
}

const lostCommits = Object.fromEntries(
  losses.map((loss): [string, Case] => [
    `where ${loss} is lost, what was to be committed is there once`,
    async (t, postgres) => {
      const { socket, stores } = await lossy(t, postgres);
      const { turns, usage, audit, transcripts } = stores;
      const losing = async <T>(work: () => Promise<T>): Promise<T> => {
        socket.lose(loss);
        const value = await work();
        await socket.lost();
        return value;
      };
      const first = await losing(() => turns.accept({ ...anAccept('c', 'default', [aText('a')]), claim: aClaim('x') }));
      deepStrictEqual(
        first.events.map(({ seq }) => seq),
        [1],
      );
      const [event] = await losing(() => turns.append(first.ref, at, [aText('b')], 'waiting', [anEntry('line')]));
      strictEqual(event?.seq, 2);
      const end = await losing(() => turns.finish(first.ref, anEnd));
      strictEqual(end.seq, 3);
      const next = await losing(() => turns.acceptNext(aNext('c', 'next')));
      strictEqual(next?.ref.epoch, 2);
      await losing(() => usage.record({ ...aCall('call'), costUsd: 0.5 }));
      await losing(() => audit.append([anEntry('another')]));
      await losing(() => transcripts.append({ tenant: 'default', session: 's', subpath: '' }, [{ a: 1 }, { a: 1 }]));
      deepStrictEqual(
        (await turns.read('default', 'c', 0, 100)).map(({ seq }) => seq),
        [1, 2, 3, 4],
      );
      strictEqual((await audit.read(null, 0, 100)).length, 2);
      const days = await usage.byDay({ tenant: null, key: null, from: '1970-01-01', to: '9999-12-31' });
      deepStrictEqual(
        days.map(({ calls }) => calls),
        [1],
      );
      strictEqual((await transcripts.load({ tenant: 'default', session: 's', subpath: '' }))?.length, 2);
    },
  ]),
);

const cases: Readonly<Record<string, Case>> = {
  ...lostCommits,

  'where nobody can say what became of a commit it is not_ready, and the same end again is the same': async (
    t,
    postgres,
  ) => {
    const { socket, stores } = await lossy(t, postgres, { patienceMs: 0, idleMs: 1000 });
    for (const loss of losses) {
      const { ref } = await eventually(() => stores.turns.accept(anAccept(loss)));
      socket.lose(loss, 'forGood');
      await rejects(stores.turns.finish(ref, anEnd), isNotReady);
      await rejects(stores.turns.read('default', loss, 0, 10), isNotReady);
      socket.repair();
      const event = await eventually(() => stores.turns.finish(ref, anEnd));
      deepStrictEqual(await eventually(() => stores.turns.read('default', loss, 0, 10)), [event]);
      await rejects(
        eventually(() => stores.turns.append(ref, at, [aText('late')])),
        StaleEpochError,
      );
    }
  },

  'a database that is down is not_ready, what was begun waits for it, and nothing is lost': async (t, postgres) => {
    const url = await postgres.newDatabase();
    const waiting = postgres.open(t, url);
    const hasty = postgres.open(t, url, { patienceMs: 0 });
    const { ref } = await waiting.turns.accept(anAccept('c'));
    await hasty.turns.check();
    await postgres.server.stop();
    await rejects(hasty.turns.append(ref, at, [aText('refused')]), isNotReady);
    await rejects(hasty.turns.read('default', 'c', 0, 10), isNotReady);
    await rejects(hasty.turns.check(), isNotReady);
    const begun = ['a', 'b', 'c'].map((text) => waiting.turns.append(ref, at, [aText(text)]));
    await postgres.server.start();
    const appended = (await Promise.all(begun)).flat();
    deepStrictEqual(await eventually(() => hasty.turns.read('default', 'c', 0, 10)), appended);
    deepStrictEqual(
      appended.map(({ body }) => body),
      ['a', 'b', 'c'].map(aText),
    );
    await eventually(() => hasty.turns.check());
  },

  'a server that is killed while it writes has lost nothing it acknowledged': async (t, postgres) => {
    const { turns } = postgres.open(t, await postgres.newDatabase());
    const { ref } = await turns.accept(anAccept('c'));
    const writer = { runs: true };
    const write = async () => {
      const seqs: (number | undefined)[] = [];
      while (writer.runs) seqs.push((await turns.append(ref, at, [aText('x')]))[0]?.seq);
      return seqs;
    };
    const writing = write();
    for (let count = 0; count < 3; count += 1) {
      await postgres.server.ask(
        'select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = $$client backend$$',
      );
      await postgres.server.stop();
      await postgres.server.start();
    }
    writer.runs = false;
    const acknowledged = await writing;
    const stored = (await eventually(() => turns.read('default', 'c', 0, 1_000_000))).map(({ seq }) => seq);
    deepStrictEqual(stored, acknowledged);
    deepStrictEqual(
      stored,
      stored.map((_, index) => index + 1),
    );
  },

  'a server that does not answer is not_ready and never waited for; when it goes on so do we': async (t, postgres) => {
    const bounds = { answerMs: 400, connectMs: 400, statementMs: 300, patienceMs: 0 };
    const stores = postgres.open(t, await postgres.newDatabase(), bounds);
    const { ref } = await eventually(() => stores.turns.accept(anAccept('c')));
    await eventually(() => Promise.all([1, 2, 3].map(() => stores.turns.read('default', 'c', 0, 1))));
    postgres.server.freeze();
    try {
      await rejects(stores.turns.read('default', 'c', 0, 10), isNotReady);
      await rejects(stores.turns.append(ref, at, [aText('a')]), isNotReady);
      const many = Array.from({ length: 20 }, () => stores.turns.get('default', ref.turn));
      for (const { status } of await Promise.allSettled(many)) strictEqual(status, 'rejected');
    } finally {
      postgres.server.thaw();
    }
    await appended(stores.turns, ref);
  },

  'transactions that are in each other’s way are run again': async (t, postgres) => {
    const url = await postgres.newDatabase();
    const bounds = { ...postgresBounds, patienceMs: 120_000 };
    const connection = connectPostgres(url, bounds);
    const database = createPostgresDatabase({ connection, clock: systemClock, bounds });
    t.after(() => database.close());
    let waiting = 0;
    const both = Promise.withResolvers<void>();
    let runs = 0;
    const locking = (first: string, second: string) =>
      database.write(async (sql) => {
        runs += 1;
        await database.alone(sql, [first]);
        waiting += 1;
        if (waiting === 2) both.resolve();
        await both.promise;
        await database.alone(sql, [second]);
        return first;
      });
    deepStrictEqual(await Promise.all([locking('a', 'b'), locking('b', 'a')]), ['a', 'b']);
    strictEqual(runs, 3);
  },

  'what Postgres cannot keep in a text is replaced, and is found nowhere': async (t, postgres) => {
    const { turns, stops, audit } = postgres.open(t, await postgres.newDatabase());
    const stop = { id: 'a', tenant: null, key: null, conversation: null, reason: 'nul \0, half \ud800', createdAt: 1 };
    await stops.add({ ...stop, createdBy: 'x' }, { ...anEntry('nul \0, half \ud800'), subject: '\0' });
    strictEqual((await stops.list())[0]?.reason, 'nul \ufffd, half \ufffd');
    strictEqual(verifyChain(await audit.read(null, 0, 10), chainStart), null);
    strictEqual(await turns.get('default', 'turn\0'), null);
    deepStrictEqual(await turns.read('default\0', 'c', 0, 10), []);
  },

  'text is ordered by its bytes, whatever the server sorts by': async (t, postgres) => {
    const { transcripts } = postgres.open(t, await postgres.newDatabase());
    const names = ['é', 'a', 'B', '_', 'Z', 'b', '-', 'á', '😀', '\uffee'];
    for (const subpath of names) await transcripts.append({ tenant: 'default', session: 's', subpath }, [{}]);
    deepStrictEqual(
      await transcripts.subpaths('default', 's'),
      names.toSorted((one, other) => Buffer.compare(Buffer.from(one), Buffer.from(other))),
    );
    const [sorted] = await postgres.server.ask<{ order: string }>(
      "select string_agg(name, '' order by name) as order from (values ('a'), ('B'), ('_')) as names (name)",
    );
    strictEqual(sorted?.order, '_aB', 'the server itself sorts by bytes, so that this test says nothing');
  },
};

/** Appends until it is known that it was. */
async function appended(
  turns: { append: (ref: TurnRef, at: number, bodies: ReturnType<typeof aText>[]) => Promise<unknown> },
  ref: TurnRef,
): Promise<void> {
  await eventually(() => turns.append(ref, at, [aText('after')]));
}

if (!leftOutWithoutPostgres('failures of Postgres')) {
  const postgres = await postgresForTests();
  for (const [name, run] of Object.entries(cases)) void test(`postgres: ${name}`, (t) => run(t, postgres));
}

test('a full disk of the database is storage_full, and a broken statement an error of ours', () => {
  const state = (code: string, part = {}) => Object.assign(new Error('some'), { code, ...part });
  strictEqual((storeError(state('53100')) as SallyportError).code, 'storage_full');
  for (const code of [
    '08006',
    '57P03',
    '53300',
    '25006',
    '40001',
    '40P01',
    '57014',
    '55P03',
    'ECONNREFUSED',
    'EPIPE',
  ]) {
    strictEqual((storeError(state(code)) as SallyportError).code, 'not_ready', code);
  }
  for (const error of [state('23505'), state('42703'), state('ERR_INVALID_ARG_TYPE'), new TypeError('x'), 'text']) {
    strictEqual(storeError(error), error);
  }
});
