import { deepStrictEqual, rejects, strictEqual } from 'node:assert/strict';
import { ClaimTakenError, TooManyJobsError, type JobEnd } from '../engine/ports.ts';
import { anEntry, auditSubjects } from './audit-entries.ts';
import { awkwardJson, declare, type MakeStore, type Promises } from './contract.ts';
import { aJob, jobAt, queueJobs, takeNext, taken, toldOf, type JobStores } from './job-samples.ts';
import { aClaim } from './turns.ts';

/** What every `JobStore` promises about single jobs. */
export function jobStoreContract(makeStores: MakeStore<JobStores>): void {
  declare('job store', promises, makeStores);
}

const completed: JobEnd = { status: 'completed', at: jobAt + 9, begun: true, error: null, code: null };
const again = { runAt: jobAt + 1000, counts: true, error: 'Later.', code: 'upstream_error' } as const;

/** The ids of the webhooks that were stored. */
const told = async ({ deliveries }: JobStores) =>
  (await deliveries.list({ tenant: 'default', state: null, before: null, limit: 100 })).map(({ id }) => id).toSorted();

const promises: Promises<JobStores> = {
  'a job comes back as it was made, with its request, whatever that holds': async (stores) => {
    const { jobs } = stores;
    for (const [index, output_schema] of awkwardJson.slice(0, 4).entries()) {
      const job = aJob(`job ${index}`, { webhookUrl: 'https://example.com/', priority: 9 });
      const request = { ...job.request, output_schema };
      const stored = await jobs.create({ ...job, request }, 10, null, anEntry('made'));
      deepStrictEqual(await jobs.get('default', job.id), stored);
      deepStrictEqual({ ...stored, request: job.request }, { ...job, ...untouched });
      deepStrictEqual(await jobs.request('default', job.id), JSON.parse(JSON.stringify(request)));
    }
    deepStrictEqual([await jobs.get('default', 'x'), await jobs.request('default', 'x')], [null, null]);
  },

  'of fifty that are made under one claim at once, one is, and it is found while the claim lasts': async (stores) => {
    const { jobs, audit } = stores;
    const make = (index: number) => jobs.create(aJob(`job ${index}`), 100, aClaim('once'), anEntry(`made ${index}`));
    const results = await Promise.allSettled(Array.from({ length: 50 }, (_, index) => make(index)));
    const [made, ...more] = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    strictEqual(more.length, 0);
    for (const result of results) if (result.status === 'rejected') strictEqual(result.reason.name, 'ClaimTakenError');
    const { expiresAt } = aClaim('once');
    const found = await jobs.claimed('default', 'key-1', 'once', expiresAt - 1);
    deepStrictEqual(found, { hash: 'hash of once', job: made });
    strictEqual((await auditSubjects(audit)).length, 1);
    for (const [key, name, at] of [
      ['key-1', 'once', expiresAt],
      ['key-2', 'once', jobAt],
      ['key-1', 'twice', jobAt],
    ] as const) {
      strictEqual(await jobs.claimed('default', key, name, at), null);
    }
    const late = aJob('late', { createdAt: expiresAt });
    await rejects(
      jobs.create(aJob('early', { createdAt: expiresAt - 1 }), 100, aClaim('once'), anEntry('no')),
      ClaimTakenError,
    );
    const renewed = { ...aClaim('once'), expiresAt: expiresAt * 2 };
    await jobs.create(late, 100, renewed, anEntry('late'));
    strictEqual((await jobs.claimed('default', 'key-1', 'once', expiresAt))?.job.id, 'late');
    strictEqual((await jobs.get('default', made?.id ?? ''))?.status, 'queued');
  },

  'of fifty that are made at once only as many are queued as may be': async (stores) => {
    const { jobs, audit } = stores;
    const make = (index: number) => jobs.create(aJob(`job ${index}`), 20, aClaim(`claim ${index}`), anEntry('made'));
    const results = await Promise.allSettled(Array.from({ length: 50 }, (_, index) => make(index)));
    strictEqual(results.filter(({ status }) => status === 'fulfilled').length, 20);
    for (const result of results) if (result.status === 'rejected') strictEqual(result.reason.name, 'TooManyJobsError');
    strictEqual((await auditSubjects(audit)).length, 20);
    await jobs.create(aJob('theirs', { tenant: 'other' }), 1, null, anEntry('theirs', 'other'));
    await takeNext(stores);
    await takeNext(stores);
    await jobs.create(aJob('in its place'), 20, null, anEntry('made'));
    await rejects(jobs.create(aJob('one more'), 20, null, anEntry('made')), TooManyJobsError);
  },

  'an attempt ends once, however many end and cancel it at once, and what is told of it is stored once': async (
    stores,
  ) => {
    const { jobs, audit } = stores;
    await queueJobs(stores, aJob('a'));
    const ref = taken(await takeNext(stores));
    const ends = await Promise.all([
      ...Array.from({ length: 25 }, (_, index) => jobs.finish(ref, completed, toldOf(`end ${index}`))),
      ...Array.from({ length: 25 }, () => jobs.cancel('default', 'a', jobAt, { audit: anEntry('x'), delivery: null })),
    ]);
    strictEqual(ends.filter((end) => end === true).length, 1);
    const { status, endedAt, node, begun } = (await jobs.get('default', 'a'))!;
    deepStrictEqual([status, endedAt, node, begun], ['completed', completed.at, null, true]);
    strictEqual((await told(stores)).length, 1);
    const lines = await auditSubjects(audit);
    strictEqual(lines.filter((line) => line?.startsWith('end')).length, 1);
    deepStrictEqual(await jobs.retry(ref, again), false);
    deepStrictEqual(await jobs.begun(ref), false);
    strictEqual((await jobs.cancel('default', 'a', jobAt, toldOf('late')))?.status, 'completed');
    strictEqual((await told(stores)).length, 1);
  },

  'what names another attempt or another node than runs is refused': async (stores) => {
    const { jobs } = stores;
    await queueJobs(stores, aJob('a'));
    const first = taken(await takeNext(stores));
    strictEqual(await jobs.retry(first, again), true);
    const second = taken(await takeNext(stores, { at: again.runAt, node: 'node-2' }));
    deepStrictEqual(second, { ...first, conversation: `run at ${again.runAt}`, node: 'node-2' });
    const stored = await jobs.get('default', 'a');
    for (const ref of [first, { ...second, node: 'node-1' }, { ...first, node: 'node-2' }]) {
      strictEqual(await jobs.finish(ref, completed, toldOf('no')), false);
      strictEqual(await jobs.retry(ref, again), false);
      strictEqual(await jobs.begun(ref), false);
    }
    deepStrictEqual(await jobs.get('default', 'a'), stored);
    deepStrictEqual(await told(stores), []);
    strictEqual(await jobs.begun(second), true);
    strictEqual((await jobs.get('default', 'a'))?.begun, true);
  },

  'an attempt that is made again counts, unless nothing has run': async (stores) => {
    const { jobs } = stores;
    await queueJobs(stores, aJob('a'));
    const first = await takeNext(stores);
    deepStrictEqual(
      [first?.status, first?.attempt, first?.node, first?.conversation, first?.startedAt],
      ['running', 1, 'node-1', `run at ${jobAt}`, jobAt],
    );
    await jobs.retry(taken(first), { ...again, counts: false });
    const queued = (await jobs.get('default', 'a'))!;
    deepStrictEqual(
      [queued.status, queued.attempt, queued.node, queued.conversation, queued.runAt, queued.error, queued.code],
      ['queued', 0, null, null, again.runAt, again.error, again.code],
    );
    strictEqual(await takeNext(stores, { at: again.runAt - 1 }), null);
    const second = await takeNext(stores, { at: again.runAt });
    deepStrictEqual([second?.attempt, second?.conversation], [1, `run at ${again.runAt}`]);
  },

  'a queued job is cancelled at once, and a running one is to be stopped and not tried again': async (stores) => {
    const { jobs, audit } = stores;
    await queueJobs(stores, aJob('queued', { priority: 1 }), aJob('running'));
    const ref = taken(await takeNext(stores));
    const [queued, running, nobody] = [
      await jobs.cancel('default', 'queued', jobAt + 5, toldOf('cancelled')),
      await jobs.cancel('default', 'running', jobAt + 5, toldOf('stopped')),
      await jobs.cancel('default', 'nobody', jobAt + 5, toldOf('nobody')),
    ];
    deepStrictEqual([queued?.status, queued?.endedAt], ['cancelled', jobAt + 5]);
    deepStrictEqual([running?.status, running?.cancelling, running?.endedAt], ['running', true, null]);
    strictEqual(nobody, null);
    deepStrictEqual(await told(stores), ['cancelled']);
    deepStrictEqual((await auditSubjects(audit)).slice(2), ['cancelled', 'stopped']);
    strictEqual((await jobs.cancel('default', 'running', jobAt + 6, toldOf('twice')))?.cancelling, true);
    strictEqual((await auditSubjects(audit)).length, 4);
    deepStrictEqual(await jobs.running('node-1'), [running]);
    strictEqual(await takeNext(stores), null);
    strictEqual(await jobs.retry(ref, again), false);
    strictEqual(await jobs.finish(ref, { ...completed, status: 'cancelled' }, toldOf('end')), true);
    deepStrictEqual(await jobs.running('node-1'), []);
  },

  'a job that nobody has cancelled does not end as cancelled': async (stores) => {
    const { jobs } = stores;
    await queueJobs(stores, aJob('a'));
    const ref = taken(await takeNext(stores));
    strictEqual(await jobs.finish(ref, { ...completed, status: 'cancelled' }, toldOf('no')), false);
    strictEqual((await jobs.get('default', 'a'))?.status, 'running');
    deepStrictEqual(await told(stores), []);
  },

  'an attempt that does not count gives no right to write the next one, whatever its number': async (stores) => {
    const { jobs } = stores;
    await queueJobs(stores, aJob('a'));
    const first = taken(await takeNext(stores));
    strictEqual(await jobs.retry(first, { ...again, counts: false }), true);
    const second = await takeNext(stores, { at: again.runAt });
    deepStrictEqual([second?.attempt, second?.node], [1, first.node]);
    strictEqual(await jobs.retry(first, again), false);
    strictEqual(await jobs.finish(first, completed, toldOf('no')), false);
    deepStrictEqual(await jobs.get('default', 'a'), second);
  },

  'a job whose conversation is to be deleted is to be stopped': async (stores) => {
    const { jobs } = stores;
    await queueJobs(stores, aJob('a'), aJob('b'));
    const [a, b] = [await takeNext(stores), await takeNext(stores, { at: jobAt + 1 })];
    await jobs.cancelRun('other', a?.conversation ?? '');
    await jobs.cancelRun('default', b?.conversation ?? '');
    deepStrictEqual((await jobs.get('default', a?.id ?? ''))?.cancelling, false);
    deepStrictEqual((await jobs.get('default', b?.id ?? ''))?.cancelling, true);
  },

  'jobs are listed newest first, by key and status, page by page': async (stores) => {
    const { jobs } = stores;
    const made = ['a', 'b', 'c', 'd'].map((id, index) =>
      aJob(id, { createdAt: jobAt + Math.floor(index / 2), key: id === 'd' ? 'key-2' : 'key-1', priority: index }),
    );
    await queueJobs(stores, ...made, aJob('theirs', { tenant: 'other' }));
    await takeNext(stores, { at: jobAt });
    const list = async (changes: object) => {
      const filter = { tenant: 'default', key: null, status: null, before: null, limit: 10 };
      return (await jobs.list({ ...filter, ...changes })).map(({ id }) => id);
    };
    deepStrictEqual(await list({}), ['d', 'c', 'b', 'a']);
    deepStrictEqual(await list({ key: 'key-1' }), ['c', 'b', 'a']);
    deepStrictEqual(await list({ status: 'running' }), ['d']);
    deepStrictEqual(await list({ status: 'queued', limit: 2 }), ['c', 'b']);
    deepStrictEqual(await list({ before: { createdAt: jobAt + 1, id: 'c' } }), ['b', 'a']);
    deepStrictEqual(await list({ tenant: 'nobody' }), []);
  },

  'only jobs that ended before a time are swept, as many as asked for': async (stores) => {
    const { jobs } = stores;
    await queueJobs(stores, ...['a', 'b', 'c', 'd', 'e'].map((id) => aJob(id)));
    for (const end of [1, 2, 3])
      await jobs.finish(taken(await takeNext(stores)), { ...completed, at: end }, toldOf(`${end}`));
    await takeNext(stores);
    strictEqual(await jobs.sweep(3, 1), 1);
    strictEqual(await jobs.sweep(3, 10), 1);
    strictEqual(await jobs.sweep(3, 10), 0);
    const left = await jobs.list({ tenant: 'default', key: null, status: null, before: null, limit: 10 });
    deepStrictEqual(left.map(({ status }) => status).toSorted(), ['completed', 'queued', 'running']);
  },
};

const untouched = {
  status: 'queued',
  attempt: 0,
  node: null,
  conversation: null,
  begun: false,
  cancelling: false,
  error: null,
  code: null,
  startedAt: null,
  endedAt: null,
};
