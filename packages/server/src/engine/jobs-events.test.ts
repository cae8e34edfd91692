import { deepStrictEqual, strictEqual } from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../../../../test/support/runs.ts';
import { aJob, queueJobs, taken, toldOf } from '../testing/job-samples.ts';
import { aText } from '../testing/turns.ts';
import { aPrincipal } from './cache-support.ts';
import { systemClock } from './clock.ts';
import { newId } from './ids.ts';
import { createJobs } from './jobs.ts';
import type { JobItem } from './jobs-events.ts';
import { cut, jobWorld, type JobWorld } from './jobs-support.ts';

const limit = { timeout: 120_000 };
const uncounted = { runAt: 0, counts: false, error: 'It stops.', code: 'not_ready' } as const;
const completed = { status: 'completed', at: 1, begun: true, error: null, code: null } as const;

/** Takes the job for a run, which says something. */
async function begin({ stores, run }: JobWorld, text: string) {
  const taking = { node: 'node-1', at: systemClock.now(), perTenant: 0, conversation: newId('conv') };
  const job = await stores.jobs.take(taking);
  const begun = await run(job?.conversation ?? '');
  await begun.say(aText(text));
  await stores.jobs.begun(taken(job));
  return { ref: taken(job), run: begun };
}

/** Follows a job from now on; `items` grow until `ended`. */
async function following(world: JobWorld, after?: string) {
  const jobs = createJobs(world.parts('node-1'), () => undefined);
  const items: JobItem[] = [];
  const { signal } = new AbortController();
  const events = await jobs.events(aPrincipal, 'job', { after, signal });
  const read = async () => {
    for await (const item of events) items.push(item);
  };
  return { items, ended: read() };
}

const textOf = (items: readonly JobItem[]): string =>
  items.map(({ event }) => (event.type === 'text_delta' ? event.content : '')).join('');
const lines = (items: readonly JobItem[]): string[] =>
  items.flatMap(({ event }) => (event.type === 'status' ? [event.status] : []));

for (const missed of [false, true]) {
  const name = missed ? ', though it was never seen to wait' : '';
  test(`a job that begins anew, which is no attempt, is told from its beginning${name}`, limit, async (t) => {
    const world = await jobWorld(t, 'node-1');
    const { stores } = world;
    await queueJobs(stores, aJob('job'));
    const first = await begin(world, 'This was the first of the two runs. ');
    const { items, ended } = await following(world);
    await until(() => textOf(items).includes('first'));
    await first.run.end(cut.shutdown);
    await stores.jobs.retry(first.ref, uncounted);
    if (!missed) await until(() => lines(items).includes('queued'));
    const second = await begin(world, 'Second. ');
    await second.run.end();
    await stores.jobs.finish(second.ref, completed, toldOf('end'));
    await ended;
    deepStrictEqual(lines(items), ['queued', 'completed']);
    const anew = items.slice(items.findIndex(({ event }) => event.type === 'status'));
    strictEqual(textOf(anew), `Second. Said in ${second.run.conversation}.`);
    strictEqual((await world.job('job')).attempt, 1);
    // Who comes back with what it heard of the first run hears the same.
    const heard = items.findLast(({ cursor }) => cursor?.startsWith(first.run.conversation))?.cursor ?? '';
    const back = await following(world, heard);
    await back.ended;
    deepStrictEqual([lines(back.items), textOf(back.items)], [['queued', 'completed'], textOf(anew)]);
  });
}

test('who comes back while a job waits to begin anew goes on', limit, async (t) => {
  const world = await jobWorld(t, 'node-1');
  const { stores } = world;
  await queueJobs(stores, aJob('job'));
  const { ref, run } = await begin(world, 'First.');
  await run.end(cut.shutdown);
  await stores.jobs.retry(ref, { ...uncounted, runAt: systemClock.now() + 3_600_000 });
  const back = await following(world, `${run.conversation}.2.0`);
  await until(() => lines(back.items).length === 1);
  await stores.jobs.cancel('default', 'job', 1, toldOf('cancel'));
  await back.ended;
  deepStrictEqual([lines(back.items), textOf(back.items)], [['queued', 'cancelled'], '']);
});
