import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HandClock } from '../testing/limiter.ts';
import { defaultBreaker } from './options.ts';
import { Pool, type TakenPlace } from './pool.ts';
import { upstreamAt } from './test-support.ts';
import { Tries } from './tries.ts';

const long = 3_600_000;
const log = { info() {}, warn() {}, error() {} };
const callerOf = (tenant: string) => ({
  tenant,
  conversation: tenant,
  model: 'model',
  signal: new AbortController().signal,
});

/** A pool of upstreams at which nobody listens, with one place each. */
function aPool(...names: string[]) {
  const settingsOf = (name: string) => upstreamAt('http://127.0.0.1:9', { name, maxConcurrent: 1 });
  const clock = new HandClock();
  const pool = new Pool({ upstreams: names.map(settingsOf), breaker: defaultBreaker, clock, log });
  const enter = (tenant: string, waitMs = long) => pool.enter(callerOf(tenant), new Tries(), waitMs);
  const place = async (entered: ReturnType<typeof enter>): Promise<TakenPlace> => {
    const got = await entered;
    assert.ok(got && 'leave' in got, 'there is a place');
    return got;
  };
  return { pool, clock, settingsOf, enter, place };
}

test('a call that finds no place in time fails as overloaded', async () => {
  const { enter, place } = aPool('a');
  const taken = await place(enter('x'));
  const late = await enter('y', 1);
  assert.ok(late && 'code' in late);
  assert.equal(late.code, 'upstream_overloaded');
  taken.leave(null);
  await place(enter('y', 1));
});

test('where the first upstream is full the next one is used, and whoever waits takes the first place at any', async () => {
  const { enter, place } = aPool('a', 'b');
  const [a, b] = [await place(enter('x')), await place(enter('y'))];
  assert.deepEqual([a.label, b.label, b.waited], ['a/key-1', 'b/key-1', false]);
  const waiting = enter('z');
  b.leave({ kind: 'passed', failure: null });
  const z = await place(waiting);
  assert.deepEqual([z.label, z.waited], ['b/key-1', true]);
});

test('a call that waits goes where there is room when upstreams or their places change', async () => {
  const { pool, enter, place, settingsOf } = aPool('a');
  const a = await place(enter('x'));
  const [first, second] = [enter('y'), enter('z')];
  pool.update([{ ...settingsOf('a'), maxConcurrent: 2 }]);
  assert.equal((await place(first)).label, 'a/key-1');
  pool.update([settingsOf('b')]);
  assert.equal((await place(second)).label, 'b/key-1');
  a.leave(null);
  assert.deepEqual(
    pool.states().map(({ name, calls }) => [name, calls]),
    [['b', 1]],
  );
});

test('a call that waits is told when the upstream it waits for is left alone', async () => {
  const { pool, enter, place } = aPool('a');
  const bad = {
    kind: 'failed',
    repeat: 'yes',
    failure: { code: 'upstream_error', retryAfter: undefined, cause: '' },
  } as const;
  for (let call = 1; call < defaultBreaker.calls; call++) (await place(enter('x'))).leave(bad);
  const last = await place(enter('x'));
  const waiting = enter('y');
  last.leave(bad);
  const told = await waiting;
  assert.ok(told && 'code' in told);
  assert.deepEqual([told.code, told.retryAfter, pool.states()[0]?.state], ['upstream_overloaded', 5, 'open']);
});

test('a good end of a call that began before its key was put aside does not bring the key back', async () => {
  const { pool, clock, settingsOf } = aPool('a');
  pool.update([{ ...settingsOf('a'), maxConcurrent: 10 }]);
  const limited = { code: 'upstream_rate_limited', retryAfter: 60, cause: '' } as const;
  const enter = async () => {
    const place = await pool.enter(callerOf('x'), new Tries(), long);
    assert.ok(place && 'leave' in place);
    return place;
  };
  const state = () => pool.states()[0]?.credentials[0]?.state;
  const before = await enter();
  clock.pass(10);
  (await enter()).leave({ kind: 'failed', repeat: 'yes', afterMs: 60_000, failure: limited });
  assert.equal(state(), 'aside');
  clock.pass(10);
  before.leave({ kind: 'passed', failure: null });
  assert.equal(state(), 'aside');
  (await enter()).leave({ kind: 'passed', failure: null });
  assert.equal(state(), 'ready');
});
