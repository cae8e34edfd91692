import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { leftOut } from '../../../../test/support/needs.ts';
import { until } from '../../../../test/support/runs.ts';
import { systemClock } from '../engine/clock.ts';
import { jobQueueContract } from '../testing/job-queue.ts';
import { redisForTests } from '../testing/redis.ts';
import { BullQueue } from './queue-bullmq.ts';
import type { RedisBounds } from './redis.ts';

const due = (id: string, runAt = 0) => ({ tenant: 'default', id, attempt: 0, runAt });

describe('BullMQ on Redis', { skip: leftOut('BullMQ on Redis', ['redis-server']) }, async () => {
  const { server, newPrefix } = await redisForTests();

  async function makeQueues(t: TestContext, nodes: number, bounds: Partial<RedisBounds> = {}) {
    const logs: string[] = [];
    const log = (_: object, message: string) => void logs.push(message);
    const logger = { info: log, warn: log, error: log };
    const prefix = newPrefix();
    const queues = Array.from(
      { length: nodes },
      () => new BullQueue({ url: server.url, prefix, clock: systemClock, logger, bounds }),
    );
    t.after(() => Promise.all(queues.map((queue) => queue.close())));
    await until(() => queues.every(({ isUp }) => isUp));
    return { queues, logs, prefix };
  }

  jobQueueContract('BullMQ queue', async (t, nodes) => (await makeQueues(t, nodes)).queues);

  test('of several nodes one is told of each job, whoever announces it', async (t) => {
    const { queues, prefix } = await makeQueues(t, 3);
    const told = [0, 0, 0];
    for (const [index, queue] of queues.entries()) queue.start(2, async () => void (told[index]! += 1));
    for (let job = 0; job < 30; job += 1) queues[job % 3]!.announce(due(`job-${job}`));
    const sum = () => told.reduce((all, one) => all + one, 0);
    await until(() => sum() === 30);
    // What was told is forgotten.
    await until(async () => (await server.ask<string[]>('KEYS', `${prefix}:jobs:job-*`)).length === 0);
    strictEqual(sum(), 30);
  });

  test('a node that is told is not told more than it has places for', async (t) => {
    const { queues } = await makeQueues(t, 1);
    const [queue] = queues;
    let [now, most] = [0, 0];
    let told = 0;
    queue!.start(2, async () => {
      now += 1;
      most = Math.max(most, now);
      await new Promise((resolve) => setTimeout(resolve, 5));
      now -= 1;
      told += 1;
    });
    for (let job = 0; job < 12; job += 1) queue!.announce(due(`job-${job}`));
    await until(() => told === 12);
    ok(most <= 2, String(most));
  });

  test('a delayed job is told of when it is due', async (t) => {
    const { queues } = await makeQueues(t, 2);
    const at: number[] = [];
    queues[1]!.start(1, async () => void at.push(Date.now()));
    const runAt = Date.now() + 300;
    queues[0]!.announce(due('a', runAt));
    await until(() => at.length === 1);
    ok(at[0]! >= runAt, `${at[0]! - runAt}`);
  });

  test('what is announced again is told of once while it waits, and another attempt is another word', async (t) => {
    const { queues, prefix } = await makeQueues(t, 1);
    const [queue] = queues;
    const kept = () => server.ask<string[]>('KEYS', `${prefix}:jobs:a-*`);
    const words = [due('a'), due('a'), { ...due('a'), attempt: 1 }, due('a', 5)];
    for (const word of words) queue!.announce(word);
    let told = 0;
    await until(async () => (await kept()).length === 3);
    queue!.start(1, async () => void (told += 1));
    await until(async () => (await kept()).length === 0);
    strictEqual(told, 3);
  });

  test('while Redis is away nothing is told and nothing fails, and afterwards it goes on', async (t) => {
    const { queues, logs } = await makeQueues(t, 1);
    const [queue] = queues;
    let told = 0;
    queue!.start(1, async () => void (told += 1));
    queue!.announce(due('before'));
    await until(() => told === 1);
    await server.kill();
    await until(() => !queue!.isUp);
    for (let job = 0; job < 100; job += 1) queue!.announce(due(`job-${job}`));
    ok(logs.length >= 1 && logs.length <= 3, logs.join());
    await server.start();
    await until(() => queue!.isUp);
    let word = 0;
    await until(() => {
      queue!.announce(due(`after-${(word += 1)}`));
      return told > 1;
    });
  });

  test(
    'a Redis that is frozen is told no more after a while, and again when it answers',
    { timeout: 120_000 },
    async (t) => {
      const { queues } = await makeQueues(t, 1, { pingMs: 50, silenceMs: 300 });
      const [queue] = queues;
      let told = 0;
      queue!.start(1, async () => void (told += 1));
      queue!.announce(due('before'));
      await until(() => told === 1);
      server.freeze();
      try {
        // However much there is to say meanwhile.
        let word = 0;
        await until(() => {
          for (let each = 0; each < 100; each += 1) queue!.announce(due(`frozen-${(word += 1)}`));
          return !queue!.isUp;
        });
      } finally {
        server.thaw();
      }
      await until(() => queue!.isUp);
      const before = told;
      let word = 0;
      await until(() => {
        queue!.announce(due(`after-${(word += 1)}`));
        return told > before;
      });
    },
  );

  test('a worker that waits in silence keeps its connection', async (t) => {
    const { queues } = await makeQueues(t, 1, { pingMs: 50, silenceMs: 200 });
    queues[0]!.start(1, async () => undefined);
    const waiting = async () => {
      const clients = await server.ask<string>('CLIENT', 'LIST');
      return clients.split('\n').flatMap((line) => (line.includes('cmd=bzpopmin') ? [/^id=\d+/u.exec(line)?.[0]] : []));
    };
    await until(async () => (await waiting()).length === 1);
    const [connection] = await waiting();
    await delay(1000);
    await until(async () => (await waiting()).length === 1);
    deepStrictEqual(await waiting(), [connection]);
  });

  test('it closes though Redis does not answer', async (t) => {
    const { queues } = await makeQueues(t, 1);
    queues[0]!.start(1, async () => undefined);
    server.freeze();
    try {
      queues[0]!.announce(due('a'));
      await queues[0]!.close();
    } finally {
      server.thaw();
    }
  });
});
