import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openLoop, poissonTimes, randomOf } from './arrivals.ts';

test('arrivals come in order, as many as the rate says, and are the same for the same word', () => {
  const times = poissonTimes(10, 1000, randomOf('a'));
  assert.deepEqual(times, poissonTimes(10, 1000, randomOf('a')));
  assert.notDeepEqual(times, poissonTimes(10, 1000, randomOf('b')));
  assert.deepEqual(
    times,
    times.toSorted((a, b) => a - b),
  );
  assert.ok(times.every((at) => at > 0 && at < 1_000_000));
  // The number of arrivals has a standard deviation of 100.
  assert.ok(Math.abs(times.length - 10_000) < 500, String(times.length));
  // Of a Poisson process, 63 % of the gaps are shorter than the mean one.
  const gaps = times.map((at, index) => at - (times[index - 1] ?? 0));
  const short = gaps.filter((gap) => gap < 100).length / gaps.length;
  assert.ok(short > 0.6 && short < 0.66, String(short));
});

test('an open loop does not wait for answers, and gives them in the order of the arrivals', async () => {
  const last = Promise.withResolvers<void>();
  const order = await openLoop([0, 0, 1], async (index) => {
    if (index === 2) last.resolve();
    await last.promise;
    return index;
  });
  assert.deepEqual(order, [0, 1, 2]);
});
