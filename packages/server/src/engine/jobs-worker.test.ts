import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../../../../test/support/runs.ts';
import { aJob, queueJobs, takeNext, taken, toldOf } from '../testing/job-samples.ts';
import { aText } from '../testing/turns.ts';
import { systemClock } from './clock.ts';
import { SallyportError } from './errors.ts';
import { cut, jobWorld } from './jobs-support.ts';
import { soon } from './log-support.ts';
import type { JobStore, StoredJob } from './ports.ts';

const limit = { timeout: 120_000 };
const again = { runAt: 0, counts: false, error: 'Later.', code: 'not_ready' } as const;

test('a job that waits for a human after a restart leaves its place to others', limit, async (t) => {
  const { stores, run, worker, begun, job } = await jobWorld(t, 'node-2');
  await queueJobs(stores, aJob('asks', { priority: 9 }), aJob('next'));
  const asks = await takeNext(stores, { node: 'node-1' });
  const waiting = await run(asks?.conversation ?? '');
  await waiting.say(aText('May I?'), 'waiting');
  worker('node-2').start();
  await until(() => begun.length === 1);
  await begun[0]?.end();
  await until(async () => (await job('next')).status === 'completed');
  deepStrictEqual([(await job('asks')).status, (await job('asks')).node], ['running', 'node-2']);
  await waiting.end();
  await until(async () => (await job('asks')).status === 'completed');
});

test('a run that was cut by a stop begins anew if it has only read, whoever finds it', limit, async (t) => {
  const { stores, run, worker, begun, job } = await jobWorld(t, 'node-2');
  await queueJobs(stores, aJob('read', { attempts: 1 }));
  const first = await takeNext(stores, { node: 'node-1' });
  await (await run(first?.conversation ?? '')).end(cut.shutdown);
  worker('node-2').start();
  await until(async () => begun.length === 1 || (await job('read')).endedAt !== null);
  const second = await job('read');
  deepStrictEqual([second.status, second.attempt, second.conversation], ['running', 1, begun[0]?.conversation]);
  ok(second.conversation !== first?.conversation);
  await begun[0]?.end();
  await until(async () => (await job('read')).status === 'completed');
});

test(
  'a run that was interrupted, or has done more than read, is not begun anew by a service that stops',
  limit,
  async (t) => {
    const { stores, run, worker, begun, job } = await jobWorld(t, 'node-2');
    const wrote = {
      type: 'tool_start',
      message_id: 'message-1',
      tool_use_id: 'tool-1',
      name: 'Write',
      input: {},
      decided_by: 'rule',
    } as const;
    await queueJobs(stores, aJob('interrupted', { priority: 9 }), aJob('wrote'));
    const interrupted = await run((await takeNext(stores, { node: 'node-1' }))?.conversation ?? '');
    const writing = await run((await takeNext(stores, { node: 'node-1', at: 1_700_000_000_001 }))?.conversation ?? '');
    await writing.say(wrote);
    await interrupted.end(cut.interrupt);
    await writing.end(cut.shutdown);
    const other = worker('node-2');
    other.drain();
    other.start();
    await stores.jobs.takeLost('node-2');
    await until(async () => (await job('interrupted')).node === null && (await job('wrote')).node === null);
    for (const [id, why] of [
      ['interrupted', cut.interrupt.error],
      ['wrote', cut.shutdown.error],
    ] as const) {
      deepStrictEqual([(await job(id)).status, (await job(id)).error], ['failed', why]);
    }
    deepStrictEqual(begun, []);
  },
);

test('a job goes on though nobody heard that it was queued again', limit, async (t) => {
  const { stores, engine, worker, begun, job } = await jobWorld(t, 'node-1');
  await queueJobs(stores, aJob('lost'));
  let refusals = 0;
  const startJob: typeof engine.startJob = async (...args) => {
    if ((refusals += 1) === 1) throw new SallyportError('overloaded');
    return await engine.startJob(...args);
  };
  let answers = 0;
  const retry: JobStore['retry'] = async (ref, given) => {
    const changed = await stores.jobs.retry(ref, { ...given, runAt: 0 });
    if ((answers += 1) === 1) throw new Error('the answer to the commit was lost');
    // Somebody is quick, and takes it again.
    await takeNext(stores, { at: systemClock.now() });
    return changed;
  };
  worker('node-1', { engine: { ...engine, startJob }, jobs: { ...stores.jobs, retry } }).start();
  await until(async () => begun.length === 1 || (await job('lost')).endedAt !== null);
  await begun[0]?.end();
  await until(async () => (await job('lost')).endedAt !== null);
  deepStrictEqual([(await job('lost')).status, begun.length, answers], ['completed', 1, 2]);
});

test('a run that cannot be stopped at once is stopped when it is looked again', limit, async (t) => {
  const { stores, engine, worker, begun, job } = await jobWorld(t, 'node-1');
  await queueJobs(stores, aJob('stubborn'));
  const one = worker('node-1', {
    engine: {
      ...engine,
      async startJob(...args) {
        // Somebody cancels it, which is seen, before its run is there.
        await stores.jobs.cancel('default', 'stubborn', 0, toldOf('cancel'));
        await one.look();
        return await engine.startJob(...args);
      },
      async stopTurn() {
        if ((tries += 1) <= 2) throw new SallyportError('not_ready');
        await begun[0]?.end(cut.interrupt);
        return true;
      },
    },
  });
  let tries = 0;
  one.start();
  await until(async () => (await job('stubborn')).endedAt !== null);
  strictEqual((await job('stubborn')).status, 'cancelled');
});

test('all jobs whose time has passed are deleted, however many they are', limit, async (t) => {
  const { stores, worker } = await jobWorld(t, 'node-1');
  const left = [200, 200, 7, 0];
  const asked: number[] = [];
  const sweep: JobStore['sweep'] = async (_, most) => {
    asked.push(most);
    return left.shift() ?? 0;
  };
  await worker('node-1', { jobs: { ...stores.jobs, sweep } }).look();
  deepStrictEqual(asked, [200, 200, 200]);
});

test('looks come one after the other, and closing waits for the last', limit, async (t) => {
  const { stores, worker } = await jobWorld(t, 'node-1');
  let [now, most, looks] = [0, 0, 0];
  const held = Promise.withResolvers<void>();
  const running: JobStore['running'] = async () => {
    most = Math.max(most, (now += 1));
    looks += 1;
    await held.promise;
    now -= 1;
    return [];
  };
  const one = worker('node-1', { jobs: { ...stores.jobs, running } });
  const all = [one.look(), one.look(), one.look()];
  await until(() => looks > 0);
  let closed = false;
  const closing = one.close().then(() => (closed = true));
  await soon();
  strictEqual(closed, false);
  held.resolve();
  await Promise.all([...all, closing]);
  strictEqual(most, 1);
});

test('what was looked at before it was queued again is not begun', limit, async (t) => {
  const { stores, worker, begun, job } = await jobWorld(t, 'node-1');
  await queueJobs(stores, aJob('stale'));
  const stale = await takeNext(stores);
  await stores.jobs.retry(taken(stale), { ...again, runAt: systemClock.now() + 3_600_000 });
  const one = worker('node-1', { jobs: { ...stores.jobs, running: async () => [stale as StoredJob] } });
  for (let looks = 0; looks < 4; looks += 1) await one.look();
  await soon();
  deepStrictEqual([begun, (await job('stale')).status], [[], 'queued']);
});

test('what was taken and is not run is begun when it was seen twice', limit, async (t) => {
  const { stores, worker, begun } = await jobWorld(t, 'node-1');
  await queueJobs(stores, aJob('stray'));
  const stray = await takeNext(stores);
  const one = worker('node-1');
  await one.look();
  await one.look();
  await until(() => begun.length === 1);
  strictEqual(begun[0]?.conversation, stray?.conversation);
});
