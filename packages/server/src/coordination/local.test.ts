import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import { test } from 'node:test';
import type { RateLimits } from '../engine/ports.ts';
import { HandClock, limiterContract } from '../testing/limiter.ts';
import { LocalLimiter } from './local.ts';

limiterContract(async (_, clock) => new LocalLimiter({ clock }));

const limits: RateLimits = { perMinute: 30, perHour: 500, burst: 10 };

test('a million addresses are never remembered at once, and one that keeps asking is not forgotten', async () => {
  const clock = new HandClock();
  const limiter = new LocalLimiter({ clock });
  for (let taken = 0; taken < 10; taken += 1) ok((await limiter.take('attacker', limits)).allowed);
  let most = 0;
  for (let number = 0; number < 1_000_000; number += 1) {
    await limiter.take(`10.${number}`, limits);
    if (number % 40_000 === 0) {
      strictEqual((await limiter.take('attacker', limits)).allowed, false);
      most = Math.max(most, limiter.subjects);
    }
  }
  ok(most <= 100_000 && limiter.subjects <= 100_000, String(most));
  ok(limiter.times <= 100_009, String(limiter.times));
});

test('what is remembered of few subjects that ask much is bounded too', async () => {
  const clock = new HandClock();
  const limiter = new LocalLimiter({ clock, maxTimes: 1000 });
  const many: RateLimits = { perMinute: 0, perHour: 300, burst: 0 };
  for (let number = 0; number < 20_000; number += 1) {
    await limiter.take(`subject ${number % 50}`, many);
    if (number % 100 === 0) ok(limiter.times <= 1000, String(limiter.times));
  }
  ok(limiter.subjects <= 50);
});

test('a subject is forgotten only after so many others have asked that it was idle longest', async () => {
  const clock = new HandClock();
  const limiter = new LocalLimiter({ clock, maxSubjects: 10 });
  const ask = async (subject: string) => (await limiter.take(subject, { ...limits, burst: 1 })).allowed;
  const others = async (count: number, name: string) => {
    for (let number = 0; number < count; number += 1) await ask(`${name} ${number}`);
  };
  strictEqual(await ask('a'), true);
  await others(4, 'first');
  strictEqual(await ask('a'), false);
  await others(4, 'second');
  strictEqual(await ask('a'), false);
  await others(100, 'third');
  deepStrictEqual([await ask('a'), limiter.subjects <= 10], [true, true]);
});

test('what has left every window is not remembered', async () => {
  const clock = new HandClock();
  const limiter = new LocalLimiter({ clock });
  for (let hour = 0; hour < 5; hour += 1) {
    for (let count = 0; count < 10; count += 1) ok((await limiter.take('a', limits)).allowed);
    strictEqual(limiter.times, 10);
    clock.pass(3_600_000);
  }
});

test('a jump of the wall clock changes no wait', async () => {
  let wall = 1_700_000_000_000;
  let passed = 0;
  const limiter = new LocalLimiter({ clock: { now: () => wall, monotonic: () => passed } });
  for (let count = 0; count < 10; count += 1) await limiter.take('a', limits);
  wall += 86_400_000;
  passed += 4000;
  const late = await limiter.take('a', limits);
  deepStrictEqual([late.allowed, late.retryAfter, late.resetAt], [false, 6, 1_700_086_406]);
  wall -= 2 * 86_400_000;
  passed += 5999;
  deepStrictEqual([(await limiter.take('a', limits)).retryAfter], [1]);
  passed += 1;
  strictEqual((await limiter.take('a', limits)).allowed, true);
});
