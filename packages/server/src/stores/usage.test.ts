import { deepStrictEqual, rejects, strictEqual } from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { sql } from 'kysely';
import { systemClock } from '../engine/clock.ts';
import { aDirectory } from '../testing/directory.ts';
import { aCall } from '../testing/usage-store.ts';
import { createDatabase } from './database.ts';
import { openSqlite } from './sqlite.ts';
import { storesOf } from './stores.ts';

test('a call, its day and what its turn has reserved change together or not at all', async (t) => {
  const connection = openSqlite(join(aDirectory(t), 'broken.db'));
  const database = await createDatabase(connection);
  t.after(() => database.close());
  const { usage, budgets } = storesOf(database, systemClock);
  const call = { ...aCall('a'), costUsd: 0.5 };
  const ever = { tenant: null, key: null, from: '1970-01-01', to: '9999-12-31' };
  await budgets.reserve({ turn: call.ref, key: call.key, node: 'node-1' }, 2, []);
  for (const [event, table] of [
    ['insert', 'usage'],
    ['insert', 'usage_days'],
    ['update', 'reservations'],
  ] as const) {
    await sql
      .raw(`create trigger broken after ${event} on ${table} begin select raise(abort, 'broken'); end`)
      .execute(connection);
    await rejects(usage.record(call), /broken/);
    deepStrictEqual(await usage.ofTurn(call.ref), []);
    deepStrictEqual(await usage.byDay(ever), []);
    strictEqual(await budgets.reserved(call.ref), 2);
    await sql`drop trigger broken`.execute(connection);
  }
  await usage.record(call);
  deepStrictEqual(await usage.ofTurn(call.ref), [call]);
  strictEqual((await usage.byDay(ever))[0]?.calls, 1);
  strictEqual(await budgets.reserved(call.ref), 1.5);
});
