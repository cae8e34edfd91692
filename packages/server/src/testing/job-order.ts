import { deepStrictEqual, strictEqual } from 'node:assert/strict';
import { declare, type MakeStore, type Promises } from './contract.ts';
import { aJob, jobAt, queueJobs, takeNext, taken, toldOf, type JobStores } from './job-samples.ts';

/** What every `JobStore` promises about who runs which job when. */
export function jobOrderContract(makeStores: MakeStore<JobStores>): void {
  declare('jobs in order', promises, makeStores);
}

/** Takes all that can be taken, one after the other, and gives their names. */
async function takeAll(stores: JobStores, options: { at?: number; perTenant?: number } = {}): Promise<string[]> {
  const names: string[] = [];
  for (let at = options.at ?? jobAt; ; at += 1) {
    const job = await takeNext(stores, { ...options, at });
    if (job === null) return names;
    names.push(job.tenant === 'default' ? job.id : `${job.id} of ${job.tenant}`);
  }
}

const end = { status: 'completed', at: jobAt, begun: true, error: null, code: null } as const;

const promises: Promises<JobStores> = {
  'of many that take at once, on several nodes, each job has one that runs it': async (stores) => {
    await queueJobs(stores, ...Array.from({ length: 30 }, (_, index) => aJob(`job ${index}`)));
    const takes = Array.from({ length: 50 }, (_, index) => takeNext(stores, { node: `node-${index % 3}` }));
    const ids = (await Promise.all(takes)).flatMap((job) => (job === null ? [] : [job.id]));
    strictEqual(ids.length, 30);
    strictEqual(new Set(ids).size, 30);
    const running = await Promise.all([0, 1, 2].map((node) => stores.jobs.running(`node-${node}`)));
    deepStrictEqual(
      running
        .flat()
        .map(({ id }) => id)
        .toSorted(),
      ids.toSorted(),
    );
  },

  'higher priorities come first, and of one priority those that are due for longest': async (stores) => {
    await queueJobs(
      stores,
      aJob('low', { priority: 0, runAt: jobAt - 50 }),
      aJob('second', { runAt: jobAt - 1 }),
      aJob('first', { runAt: jobAt - 2 }),
      aJob('later', { priority: 9, runAt: jobAt + 1000 }),
      aJob('high', { priority: 9 }),
    );
    deepStrictEqual(await takeAll(stores), ['high', 'first', 'second', 'low']);
    deepStrictEqual(await takeAll(stores, { at: jobAt + 1000 }), ['later']);
  },

  'tenants take turns, whoever has more jobs or higher priorities': async (stores) => {
    const many = Array.from({ length: 4 }, (_, index) => aJob(`${index}`, { runAt: jobAt + index, priority: 9 }));
    await queueJobs(stores, ...many, ...['b', 'c'].map((tenant) => aJob('own', { tenant, priority: 0 })));
    const names: string[] = [];
    for (let at = jobAt + 10; ; at += 1) {
      const job = await takeNext(stores, { at });
      if (job === null) break;
      names.push(`${job.id} of ${job.tenant}`);
      await stores.jobs.finish(taken(job), end, toldOf(`${at}`, job.tenant));
    }
    deepStrictEqual(names, ['own of b', 'own of c', '0 of default', '1 of default', '2 of default', '3 of default']);
  },

  'of the tenants the one is served of which the fewest run': async (stores) => {
    await queueJobs(stores, ...['1', '2', '3'].flatMap((id) => [aJob(id), aJob(id, { tenant: 'other' })]));
    const names = await takeAll(stores);
    for (let turn = 0; turn < 6; turn += 2) {
      strictEqual(names.slice(turn, turn + 2).filter((name) => name.endsWith(' of other')).length, 1, names.join());
    }
  },

  'no more of a tenant run at a time than may, however many take at once': async (stores) => {
    await queueJobs(
      stores,
      ...Array.from({ length: 10 }, (_, index) => aJob(`${index}`)),
      aJob('b', { tenant: 'other' }),
    );
    const takes = Array.from({ length: 20 }, (_, index) =>
      takeNext(stores, { node: `node-${index % 2}`, perTenant: 3 }),
    );
    const jobs = (await Promise.all(takes)).filter((job) => job !== null);
    deepStrictEqual(jobs.map(({ tenant }) => tenant).toSorted(), ['default', 'default', 'default', 'other']);
    const [one] = jobs.filter(({ tenant }) => tenant === 'default');
    await stores.jobs.finish(taken(one ?? null), end, toldOf('one'));
    deepStrictEqual((await takeAll(stores, { perTenant: 3 })).length, 1);
  },

  'only the jobs of nodes that are gone are taken over, each by one': async (stores) => {
    const { jobs, nodes } = stores;
    for (const node of ['node-1', 'node-2', 'node-3']) await nodes.join(node, node);
    await queueJobs(stores, ...['a', 'b', 'c', 'd'].map((id) => aJob(id)), aJob('queued', { runAt: jobAt + 9 }));
    const refs = [];
    for (const node of ['node-1', 'node-1', 'node-2', 'node-1']) refs.push(taken(await takeNext(stores, { node })));
    await jobs.finish(refs[3]!, end, toldOf('end'));
    deepStrictEqual(await jobs.takeLost('node-3'), []);
    await nodes.leave('node-1');
    const lost = await Promise.all([jobs.takeLost('node-2'), jobs.takeLost('node-3')]);
    deepStrictEqual(
      lost
        .flat()
        .map(({ id }) => id)
        .toSorted(),
      [refs[0]!.id, refs[1]!.id].toSorted(),
    );
    for (const job of lost.flat()) {
      strictEqual(job.attempt, 1);
      deepStrictEqual((await jobs.get('default', job.id))?.node, job.node);
      strictEqual(await jobs.finish({ ...taken(job), node: 'node-1' }, end, toldOf('stale')), false);
      strictEqual(await jobs.finish(taken(job), end, toldOf(job.id)), true);
    }
    strictEqual((await jobs.get('default', refs[2]!.id))?.node, 'node-2');
    deepStrictEqual(await jobs.takeLost('node-3'), []);
  },
};
