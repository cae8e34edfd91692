import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { leftOut } from '../../../../test/support/needs.ts';
import { until } from '../../../../test/support/runs.ts';
import { newUuid } from '../engine/ids.ts';
import { busContract, listening, sharedBusContract } from '../testing/bus.ts';
import { keepingLog, redisForTests } from '../testing/redis.ts';
import { RedisBus, type RedisBusOptions } from './redis-bus.ts';
import type { RedisBounds } from './redis.ts';

describe(
  'messages through Redis',
  { skip: leftOut('messages through Redis', ['redis-server']), timeout: 300_000 },
  async () => {
    const { server, connect, newPrefix } = await redisForTests();

    /** A node with its two connections. */
    async function aNode(t: TestContext, prefix: string, given: Partial<RedisBusOptions & RedisBounds> = {}) {
      const { told, logger } = keepingLog();
      const [redis, subscriber] = [connect(t, given, logger), connect(t, given, logger)];
      const bus = new RedisBus({ redis, subscriber, prefix, node: newUuid(), logger, ...given });
      let gaps = 0;
      const stopGaps = bus.onGap(() => (gaps += 1));
      await Promise.all([redis.start(), subscriber.start()]);
      await until(() => gaps > 0); // that of the first connection
      return { bus, redis, subscriber, told, gaps: () => gaps, stopGaps };
    }

    const subscribers = async (prefix: string, channel: string) =>
      (await server.ask<[string, number]>('PUBSUB', 'NUMSUB', `${prefix}of:${channel}`))[1];

    busContract(async (t) => (await aNode(t, newPrefix())).bus);
    sharedBusContract(async (t) => {
      const prefix = newPrefix();
      const [a, b, c] = await Promise.all([aNode(t, prefix), aNode(t, prefix), aNode(t, prefix)]);
      return [a.bus, b.bus, c.bus];
    });

    test('a channel costs a node one subscription however many listen, and none when nobody does', async (t) => {
      const prefix = newPrefix();
      const [a, b] = await Promise.all([aNode(t, prefix), aNode(t, prefix)]);
      const ends = [await listening(b.bus, 'news', [a.bus]), await listening(b.bus, 'news', [a.bus])];
      strictEqual(await subscribers(prefix, 'news'), 1);
      ends[0]?.stop();
      await ends[1]?.after(a.bus);
      strictEqual(await subscribers(prefix, 'news'), 1);
      ends[1]?.stop();
      await until(async () => (await subscribers(prefix, 'news')) === 0);
    });

    test('after Redis was killed what is listened to comes again, nothing else, and a gap is told', async (t) => {
      const prefix = newPrefix();
      const [a, b] = await Promise.all([aNode(t, prefix), aNode(t, prefix)]);
      const kept = await listening(b.bus, 'kept', [a.bus]);
      const left = await listening(b.bus, 'left', [a.bus]);
      const before = b.gaps();
      await server.kill();
      await until(() => !b.subscriber.isUp && !a.redis.isUp);
      left.stop();
      let late = 0;
      b.bus.subscribe('late', () => (late += 1));
      a.bus.publish('kept', 'lost');
      strictEqual(b.gaps(), before);
      await server.start();
      await until(() => b.gaps() > before);
      await until(() => a.redis.isUp);
      // Whoever hears of the gap gets what comes after it.
      a.bus.publish('kept', 'after');
      await kept.after(a.bus);
      deepStrictEqual(kept.came, ['after']);
      strictEqual(await subscribers(prefix, 'late'), 1);
      await until(async () => (await subscribers(prefix, 'left')) === 0);
      a.bus.publish('late', 'one');
      await kept.after(a.bus);
      strictEqual(late, 1);
      b.stopGaps();
      b.stopGaps();
    });

    test('a node that cannot send tells the others that messages were lost, as soon as it can', async (t) => {
      const prefix = newPrefix();
      const [a, b] = await Promise.all([aNode(t, prefix, { maxPending: 10_000 }), aNode(t, prefix)]);
      const end = await listening(b.bus, 'news', [a.bus]);
      const before = b.gaps();
      server.freeze();
      try {
        for (let count = 0; count < 1000; count += 1) a.bus.publish('news', `message ${count}`);
      } finally {
        server.thaw();
      }
      await until(() => b.gaps() > before);
      ok(end.came.length > 0 && end.came.length < 50, String(end.came.length));
      await end.after(a.bus);
    });

    test('a node whose messages were given up tells the others when Redis answers again', async (t) => {
      const prefix = newPrefix();
      const [a, b] = await Promise.all([aNode(t, prefix, { answerMs: 100 }), aNode(t, prefix)]);
      const before = b.gaps();
      server.freeze();
      try {
        a.bus.publish('news', 'one');
        await until(() => !a.redis.isUp);
        a.bus.publish('news', 'two');
      } finally {
        server.thaw();
      }
      await until(() => b.gaps() > before);
    });

    test('a listener that fails is told to the log', async (t) => {
      const prefix = newPrefix();
      const [a, b] = await Promise.all([aNode(t, prefix), aNode(t, prefix)]);
      b.bus.subscribe('news', () => {
        throw new Error('a listener that fails');
      });
      await listening(b.bus, 'news', [a.bus]);
      ok(b.told.some(({ level, message }) => level === 'error' && message === 'a listener of the bus has failed'));
    });

    test('a subscription that Redis refuses is told once', async (t) => {
      await server.ask('ACL', 'SETUSER', 'narrow', 'on', '>narrow', '~*', '+@all', 'resetchannels');
      t.after(() => server.ask('ACL', 'DELUSER', 'narrow'));
      const { told, logger } = keepingLog();
      const url = server.url.replace(/\/\/:[^@]+/u, '//narrow:narrow');
      const [redis, subscriber] = [connect(t, {}, logger, url), connect(t, {}, logger, url)];
      const bus = new RedisBus({ redis, subscriber, prefix: newPrefix(), node: newUuid(), logger });
      await Promise.all([redis.start(), subscriber.start()]);
      bus.subscribe('a', () => undefined);
      bus.subscribe('b', () => undefined);
      bus.publish('a', 'one');
      bus.publish('a', 'two');
      await until(() => told.length === 2);
      await redis.ask((client) => client.ping());
      deepStrictEqual(told.map(({ message }) => message).toSorted(), [
        'Redis refuses a command',
        'Redis refuses a subscription',
      ]);
    });
  },
);
