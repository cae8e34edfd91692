import assert from 'node:assert/strict';
import { test } from 'node:test';
import { unnarrowed } from '../engine/narrowing.ts';
import { limitsFor } from './rate-limit.ts';
import { limitedApp, told } from './rate-support.ts';
import { keysWith, principalOf } from './testing.ts';

const service = { perMinute: 30, perHour: 500, burst: 10 };

test('a key has the limits that it was given, and else those of the service', () => {
  const of = (rates: object | null) => limitsFor(principalOf('user', { narrowing: { ...unnarrowed, rates } }), service);
  assert.deepEqual(limitsFor(null, service), service);
  assert.deepEqual(limitsFor(principalOf('user'), service), service);
  assert.deepEqual(of(null), service);
  assert.deepEqual(of({}), service);
  assert.deepEqual(of({ burst: 2 }), { ...service, burst: 2 });
  assert.deepEqual(of({ perMinute: 100, perHour: 0 }), { ...service, perMinute: 100, perHour: 0 });
});

test('a key with limits of its own is held to them, and told them, from its next request on', async () => {
  const rates = { perMinute: 3, burst: 2 };
  const { keys, stored, headers } = await keysWith('slow', { narrowing: { ...unnarrowed, rates } });
  const { app, ask, clock } = await limitedApp({ keys });
  const first = await ask({ headers });
  assert.deepEqual([first.statusCode, ...told(first)], [200, '3', '2', '500', '499']);
  assert.equal((await ask({ headers })).statusCode, 200);
  const refused = await ask({ headers });
  assert.equal(refused.statusCode, 429);
  const { limits } = refused.json<{ detail: { limits: object } }>().detail;
  assert.deepEqual(limits, { requests_per_minute: 3, requests_per_hour: 500, burst_size: 2 });
  assert.deepEqual(told(await ask()), ['30', '29', '500', '499'], 'another key has those of the service');
  await stored.change('default', 'slow', { narrowing: null });
  assert.equal((await ask({ headers })).statusCode, 200);
  await stored.change('default', 'slow', { narrowing: { ...unnarrowed, rates: { perMinute: 3 } } });
  assert.equal((await ask({ headers })).statusCode, 429);
  clock.pass(60_000);
  assert.equal((await ask({ headers })).statusCode, 200);
  await app.close();
});
