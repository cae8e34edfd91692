import { strictEqual } from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../engine/clock.ts';
import { jobQueueContract } from '../testing/job-queue.ts';
import { LocalQueue } from './queue-local.ts';

jobQueueContract('local queue', async (t, nodes) => {
  const queues = Array.from({ length: nodes }, () => new LocalQueue(systemClock));
  t.after(() => Promise.all(queues.map((queue) => queue.close())));
  return queues;
});

test('what is due later is left to the rows', () => {
  const queue = new LocalQueue({ now: () => 1000, monotonic: () => 0 });
  let told = 0;
  queue.start(1, async () => void (told += 1));
  queue.announce({ tenant: 'default', id: 'a', attempt: 0, runAt: 1001 });
  strictEqual(told, 0);
  queue.announce({ tenant: 'default', id: 'a', attempt: 0, runAt: 1000 });
  strictEqual(told, 1);
});
