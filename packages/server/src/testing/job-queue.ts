import { ok, strictEqual } from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import type { TestContext } from 'node:test';
import type { JobQueue } from '../engine/ports.ts';
import { declare, type Promises } from './contract.ts';

/** Queues of several nodes that share what they are told; closed after the test. */
export type MakeQueues = (t: TestContext, nodes: number) => Promise<JobQueue[]>;

/** What every `JobQueue` promises, as long as nothing fails. */
export function jobQueueContract(name: string, makeQueues: MakeQueues): void {
  declare(name, promises, async (t) => (nodes: number) => makeQueues(t, nodes));
}

const due = (id: string, runAt = 0) => ({ tenant: 'default', id, attempt: 0, runAt });

const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await delay(5);
};

const promises: Promises<(nodes: number) => Promise<JobQueue[]>> = {
  'somebody is told of each job that is due': async (make) => {
    const [queue] = await make(1);
    let told = 0;
    queue!.start(4, async () => void (told += 1));
    for (let job = 0; job < 20; job += 1) queue!.announce(due(`job-${job}`));
    await until(() => told >= 20);
  },

  'a job may be announced before anybody listens, and after it is closed, without harm': async (make) => {
    const [queue] = await make(1);
    queue!.announce(due('early'));
    queue!.start(1, async () => undefined);
    await queue!.close();
    queue!.announce(due('late'));
    await queue!.close();
  },

  'nothing is told after it is closed': async (make) => {
    const [queue] = await make(1);
    let told = 0;
    queue!.start(4, async () => void (told += 1));
    queue!.announce(due('a'));
    await until(() => told === 1);
    await queue!.close();
    queue!.announce(due('b'));
    await delay(50);
    strictEqual(told, 1);
  },

  'closing does not wait for what was begun': async (make) => {
    const [queue] = await make(1);
    const held = Promise.withResolvers<void>();
    let begun = false;
    queue!.start(1, () => {
      begun = true;
      return held.promise;
    });
    queue!.announce(due('a'));
    await until(() => begun);
    await queue!.close();
    ok(begun);
    held.resolve();
  },
};
