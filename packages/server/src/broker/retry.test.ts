import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HandClock } from '../testing/limiter.ts';
import { defaultRetry } from './options.ts';
import { parseRetryAfter, RetryBudget, retryDelay } from './retry.ts';

const policy = {
  ...defaultRetry,
  attempts: 5,
  baseDelayMs: 500,
  maxDelayMs: 3000,
  maxRetryAfterMs: 10_000,
};

test('delays grow, are bounded, and vary by half', () => {
  const longest = [1, 2, 3, 4, 5].map((repeat) => retryDelay(policy, repeat, undefined, 1));
  assert.deepEqual(longest, [500, 1000, 2000, 3000, 3000]);
  assert.equal(retryDelay(policy, 2, undefined, 0), 500);
});

test('repeats are bounded', () => {
  assert.equal(retryDelay(policy, 6, undefined, 0), null);
  assert.equal(retryDelay({ ...policy, attempts: 0 }, 1, undefined, 0), null);
});

test('the wait the upstream asks for is kept, unless it is too long', () => {
  assert.equal(retryDelay(policy, 1, 4000, 0), 4000);
  assert.equal(retryDelay(policy, 4, 10, 1), 3000);
  assert.equal(retryDelay(policy, 1, 10_000, 0), 10_000);
  assert.equal(retryDelay(policy, 1, 10_001, 0), null);
});

test('retry-after is read as seconds and as a date', () => {
  const now = Date.UTC(2026, 10, 21, 12, 0, 0);
  assert.equal(parseRetryAfter('2', now), 2000);
  assert.equal(parseRetryAfter('0', now), 0);
  assert.equal(parseRetryAfter('Sat, 21 Nov 2026 12:00:30 GMT', now), 30_000);
  assert.equal(parseRetryAfter('Sat, 21 Nov 2026 11:00:00 GMT', now), 0);
  assert.equal(parseRetryAfter('soon', now), undefined);
  assert.equal(parseRetryAfter(undefined, now), undefined);
});

test('of all calls within ten seconds a fifth may be repeated, and ten always', () => {
  const clock = new HandClock();
  const budget = new RetryBudget(clock, defaultRetry);
  const taken = (asked: number) => Array.from({ length: asked }, () => budget.take()).filter(Boolean).length;
  assert.equal(taken(20), 10);
  clock.pass(10_001);
  for (let call = 0; call < 100; call++) budget.began();
  assert.equal(taken(50), 20);
  clock.pass(10_001);
  assert.equal(taken(20), 10);
});
