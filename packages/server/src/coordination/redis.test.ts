import { deepStrictEqual, match, ok, rejects, strictEqual } from 'node:assert/strict';
import { describe, test } from 'node:test';
import { rootCertificates, setDefaultCACertificates } from 'node:tls';
import { leftOut } from '../../../../test/support/needs.ts';
import { redisPassword, startRedis } from '../../../../test/support/redis.ts';
import { until } from '../../../../test/support/runs.ts';
import { keepingLog, redisForTests } from '../testing/redis.ts';
import { placeOfRedis, Redis, RedisDownError, redisPrefix, redisVersion } from './redis.ts';

/** For what must answer, however busy the machine is. */
const patient = 120_000;

test('where a Redis is has no user and no password, and each database a prefix of its own', () => {
  strictEqual(placeOfRedis('redis://user:secret@host'), 'host:6379/0');
  strictEqual(placeOfRedis('rediss://:secret@[::1]:7000/12'), '[::1]:7000/12');
  deepStrictEqual(['redis://a', 'redis://b/', 'redis://c/0'].map(redisPrefix), Array(3).fill('sallyport:0:'));
  strictEqual(redisPrefix('redis://a/7'), 'sallyport:7:');
});

describe(
  'a connection to Redis',
  { skip: leftOut('connections to Redis', ['redis-server']), timeout: 300_000 },
  async () => {
    const { server, connect, connected, newPrefix } = await redisForTests();
    const increment = (key: string) => (client: Redis['client']) => client.incr(key);

    test('a Redis that is killed rejects at once, and is asked again when it is back, which is told once each', async (t) => {
      const { told, logger } = keepingLog();
      const redis = await connected(t, {}, logger);
      strictEqual(await redis.ask(increment('a')), 1);
      await server.kill();
      await until(() => !redis.isUp);
      for (let tries = 0; tries < 3; tries += 1) await rejects(redis.ask(increment('a')), RedisDownError);
      await server.start();
      await until(() => redis.isUp);
      strictEqual(await redis.ask(increment('a')), 1);
      deepStrictEqual(
        told.map(({ level, message }) => [level, message]),
        [
          ['warn', 'Redis does not answer, and this node goes on alone'],
          ['info', 'Redis answers again'],
        ],
      );
    });

    test('a Redis that is frozen costs one wait, is not asked meanwhile, and is asked again when it has answered', async (t) => {
      const { told, logger } = keepingLog();
      const key = newPrefix();
      const redis = await connected(t, { answerMs: 300 }, logger);
      server.freeze();
      try {
        await rejects(redis.ask(increment(key)), RedisDownError);
        strictEqual(redis.isUp, false);
        for (let tries = 0; tries < 100; tries += 1) await rejects(redis.ask(increment(key)), RedisDownError);
      } finally {
        server.thaw();
      }
      await until(() => redis.isUp);
      strictEqual(await server.ask('GET', key), '1');
      strictEqual(told.length, 2);
    });

    test('a connection on which nothing comes is given up, and another one is made', async (t) => {
      const redis = await connected(t, { answerMs: 100, pingMs: 50, silenceMs: 200 });
      let connections = 0;
      redis.onReady(() => (connections += 1));
      server.freeze();
      try {
        await rejects(redis.ask(increment('b')));
        await until(() => !redis.client.isReady);
      } finally {
        server.thaw();
      }
      await until(() => redis.isUp && connections > 0);
    });

    test('what Redis refuses is an answer: it rejects, is told once, and the next command is asked', async (t) => {
      const { told, logger } = keepingLog();
      const redis = await connected(t, {}, logger);
      const key = newPrefix();
      await redis.ask((client) => client.set(key, 'no number'));
      for (let tries = 0; tries < 3; tries += 1) await rejects(redis.ask(increment(key)), /not an integer/u);
      strictEqual(await redis.ask((client) => client.get(key)), 'no number');
      deepStrictEqual(
        told.map(({ message }) => message),
        ['Redis refuses a command'],
      );
    });

    test('a service starts without it, and a close while it connects ends the trying', async (t) => {
      const { told, logger } = keepingLog();
      const redis = connect(t, { startMs: 50, silenceMs: 100 }, logger);
      server.freeze();
      try {
        await redis.start();
        await rejects(redis.ask(increment('c')), RedisDownError);
        strictEqual(told.length, 1);
        redis.close();
        redis.close();
      } finally {
        server.thaw();
      }
      strictEqual(redis.isUp, false);
      strictEqual(told.length, 1);
    });

    test('what was asked when it is closed rejects', async (t) => {
      const { told, logger } = keepingLog();
      const redis = await connected(t, {}, logger);
      server.freeze();
      try {
        const asked = rejects(redis.ask(increment('d')));
        redis.close();
        await asked;
      } finally {
        server.thaw();
      }
      deepStrictEqual(told, []);
    });

    test('the version is known with the right password; a wrong one is told without it, and so is a Redis that is not there', async (t) => {
      match(await redisVersion(server.url, patient), /^Redis \d+\.\d+\.\d+$/u);
      const wrong = server.url.replace(redisPassword, 'a-wrong-password');
      await rejects(redisVersion(wrong, patient), (error: Error) => {
        match(error.message, /^cannot use Redis at 127\.0\.0\.1:\d+\/0: WRONGPASS/u);
        ok(!error.message.includes('a-wrong-password'));
        return true;
      });
      await rejects(
        redisVersion('redis://127.0.0.1:9', patient),
        /^Error: cannot use Redis at 127\.0\.0\.1:9\/0: .*ECONNREFUSED/u,
      );
      server.freeze();
      try {
        await rejects(redisVersion(server.url, 100), /^Error: cannot use Redis at .*timeout/u);
      } finally {
        server.thaw();
      }
      const { told, logger } = keepingLog();
      const redis = new Redis({ url: wrong, name: 'test', logger, bounds: { startMs: 120_000 } });
      t.after(() => redis.close());
      void redis.start();
      await until(() => told.length > 0);
      strictEqual(redis.isUp, false);
      ok(!JSON.stringify(told).includes('a-wrong-password'));
    });
  },
);

describe('Redis with TLS', { skip: leftOut('Redis with TLS', ['redis-server', 'openssl']), timeout: 300_000 }, () => {
  test('with TLS its certificate is checked', async (t) => {
    const own = await startRedis('tls');
    t.after(() => own.close());
    await rejects(redisVersion(own.tlsUrl ?? '', patient), /self-signed certificate/u);
    setDefaultCACertificates([...rootCertificates, own.certificate ?? '']);
    t.after(() => setDefaultCACertificates([...rootCertificates]));
    match(await redisVersion(own.tlsUrl ?? '', patient), /^Redis /u);
  });
});
