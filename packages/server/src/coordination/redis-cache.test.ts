import { ok, strictEqual } from 'node:assert/strict';
import { describe, test } from 'node:test';
import { leftOut } from '../../../../test/support/needs.ts';
import { until } from '../../../../test/support/runs.ts';
import { redisForTests } from '../testing/redis.ts';
import { maxBytes, responseCacheContract } from '../testing/response-cache.ts';
import { RedisCache } from './redis-cache.ts';

/** The seconds of the suite are this much longer in Redis, so that what a test takes itself does not matter. */
const stretch = 1000;

describe(
  'stored answers in Redis',
  { skip: leftOut('stored answers in Redis', ['redis-server']), timeout: 300_000 },
  async () => {
    const { server, connected, newPrefix } = await redisForTests();

    responseCacheContract(async (t) => {
      const prefix = newPrefix();
      const redis = await connected(t);
      const cache = new RedisCache({ redis, prefix, maxBytes });
      t.after(() => server.ask('FLUSHALL'));
      return {
        cache: { get: (key) => cache.get(key), set: (key, value, seconds) => cache.set(key, value, seconds * stretch) },
        async pass(milliseconds) {
          for (const key of await server.ask<string[]>('KEYS', `${prefix}*`)) {
            const left = (await server.ask<number>('PTTL', key)) - milliseconds * stretch;
            await server.ask('PEXPIRE', key, String(left));
          }
        },
      };
    });

    test('what one node stores another one finds, for as long as was said', async (t) => {
      const prefix = newPrefix();
      const [one, other] = await Promise.all([connected(t), connected(t)]);
      await new RedisCache({ redis: one, prefix, maxBytes }).set('a', '1', 3600);
      strictEqual(await new RedisCache({ redis: other, prefix, maxBytes }).get('a'), '1');
      const left = await server.ask<number>('PTTL', `${prefix}a`);
      ok(left > 0 && left <= 3_600_000, String(left));
    });

    test('while Redis is away nothing is found and nothing is kept, and nothing rejects', async (t) => {
      const redis = await connected(t);
      const cache = new RedisCache({ redis, prefix: newPrefix(), maxBytes });
      await cache.set('a', '1', 3600);
      await server.kill();
      strictEqual(await cache.get('a'), null);
      await cache.set('b', '2', 3600);
      await server.start();
      await until(() => redis.isUp);
      strictEqual(await cache.get('a'), null);
      strictEqual(await cache.get('b'), null);
      await cache.set('a', '3', 3600);
      strictEqual(await cache.get('a'), '3');
    });
  },
);
