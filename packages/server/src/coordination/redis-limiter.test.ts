import { deepStrictEqual, ok, rejects, strictEqual } from 'node:assert/strict';
import { describe, test } from 'node:test';
import { leftOut } from '../../../../test/support/needs.ts';
import type { RateLimits } from '../engine/ports.ts';
import { HandClock, limiterContract } from '../testing/limiter.ts';
import { redisForTests } from '../testing/redis.ts';
import { RedisLimiter } from './redis-limiter.ts';

const off: RateLimits = { perMinute: 0, perHour: 0, burst: 0 };

describe('limits in Redis', { skip: leftOut('limits in Redis', ['redis-server']), timeout: 300_000 }, async () => {
  const { server, connected, newPrefix } = await redisForTests();

  limiterContract(async (t, clock) => new RedisLimiter({ redis: await connected(t), prefix: newPrefix(), clock }));

  test('of many that ask at once through several connections, exactly as many are let through as there are places', async (t) => {
    const prefix = newPrefix();
    const clients = await Promise.all([1, 2, 3, 4].map(() => connected(t)));
    const limiters = clients.map((redis) => new RedisLimiter({ redis, prefix }));
    const limits = { ...off, perHour: 100 };
    const asked = Array.from({ length: 200 }, () => limiters.map((limiter) => limiter.take('a', limits))).flat();
    const allowed = (await Promise.all(asked)).filter((verdict) => verdict.allowed);
    const remaining = allowed.map(({ remainingHour }) => remainingHour).toSorted((a, b) => b - a);
    deepStrictEqual(
      remaining,
      Array.from({ length: 100 }, (_, index) => 99 - index),
    );
  });

  test('the time is that of Redis', async (t) => {
    const limiter = new RedisLimiter({ redis: await connected(t), prefix: newPrefix() });
    const limits = { ...off, perHour: 1 };
    const second = async () => Number((await server.ask<string[]>('TIME'))[0]);
    const before = await second();
    const verdict = await limiter.take('a', limits);
    const after = await second();
    ok(verdict.allowed);
    ok(verdict.resetAt >= before + 3600 && verdict.resetAt <= after + 3601, String(verdict.resetAt));
    const { allowed, retryAfter } = await limiter.take('a', limits);
    ok(!allowed && retryAfter > 3000 && retryAfter <= 3600, String(retryAfter));
  });

  test('a clock that is set back a little holds nobody up, and one that is set back far begins anew', async (t) => {
    const prefix = newPrefix();
    const redis = await connected(t);
    const limits = { ...off, burst: 2, perHour: 100 };
    const take = async (time: number) => {
      const clock = { now: () => time, monotonic: () => time };
      return await new RedisLimiter({ redis, prefix, clock }).take('a', limits);
    };
    ok((await take(1_000_000)).allowed);
    ok((await take(995_000)).allowed);
    const refused = await take(995_000);
    deepStrictEqual([refused.allowed, refused.retryAfter], [false, 10]);
    const anew = await take(500_000);
    deepStrictEqual([anew.allowed, anew.remainingHour], [true, 99]);
  });

  test('nothing of a subject stays but what its windows need, and not for longer than the longest', async (t) => {
    const prefix = newPrefix();
    const clock = new HandClock();
    const limiter = new RedisLimiter({ redis: await connected(t), prefix, clock });
    const limits = { ...off, perMinute: 10, perHour: 20 };
    for (let count = 0; count < 500; count += 1) {
      await limiter.take('a', limits);
      clock.pass(1000);
    }
    strictEqual(await server.ask('LLEN', `${prefix}a`), 20);
    const left = await server.ask<number>('PTTL', `${prefix}a`);
    ok(left > 0 && left <= 3_600_000, String(left));
    clock.pass(3_600_000);
    ok((await limiter.take('a', limits)).allowed);
    strictEqual(await server.ask('LLEN', `${prefix}a`), 1);
    await limiter.take('b', off);
    deepStrictEqual(await server.ask('KEYS', `${prefix}*`), [`${prefix}a`]);
  });

  test('what decides is sent once, and again only to a Redis that has lost it', async (t) => {
    const limiter = new RedisLimiter({ redis: await connected(t), prefix: newPrefix() });
    const limits = { ...off, perHour: 5 };
    const sent = async () =>
      Number(/^cmdstat_eval:calls=(\d+)/mu.exec(await server.ask('INFO', 'commandstats'))?.[1] ?? 0);
    await server.ask('SCRIPT', 'FLUSH');
    const before = await sent();
    for (let count = 4; count > 1; count -= 1) strictEqual((await limiter.take('a', limits)).remainingHour, count);
    strictEqual((await sent()) - before, 1);
    await server.ask('SCRIPT', 'FLUSH');
    for (let count = 1; count >= 0; count -= 1) strictEqual((await limiter.take('a', limits)).remainingHour, count);
    strictEqual((await limiter.take('a', limits)).allowed, false);
    strictEqual((await sent()) - before, 2);
  });

  test('a Redis that is full refuses, and counts nothing', async (t) => {
    const limiter = new RedisLimiter({ redis: await connected(t), prefix: newPrefix() });
    const limits = { ...off, perHour: 2 };
    await limiter.take('a', limits);
    await server.ask('CONFIG', 'SET', 'maxmemory', '1');
    try {
      for (let tries = 0; tries < 3; tries += 1) await rejects(limiter.take('a', limits), /OOM/u);
    } finally {
      await server.ask('CONFIG', 'SET', 'maxmemory', '0');
    }
    const { allowed, remainingHour } = await limiter.take('a', limits);
    deepStrictEqual([allowed, remainingHour], [true, 0]);
  });
});
