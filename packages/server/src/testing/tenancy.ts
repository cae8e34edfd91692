import { deepStrictEqual, notDeepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import { StaleEpochError } from '../engine/ports.ts';
import { declare, type MakeStore } from './contract.ts';
import { toldOf } from './job-samples.ts';
import { changes, seed, type AllStores, type OfTenants } from './tenancy-changes.ts';

/** What all stores together promise about tenants. */
export function tenancyContract(makeStores: MakeStore<AllStores>): void {
  declare('tenants', { 'of fifty with equal names of everything, none meets another': neverMeet }, makeStores);
}

/** What is read through one tenant, by every reading method that names one. */
const readers: Record<OfTenants, (stores: AllStores, tenant: string) => Promise<unknown>> = {
  turns: ({ turns }, tenant) =>
    Promise.all([
      ...['c', 'd', 'old'].map((id) => turns.get(tenant, `turn of ${id}`)),
      ...['c', 'd', 'old', 'fork'].map((id) => turns.read(tenant, id, 0, 100)),
      turns.claimed(tenant, 'key-1', 'claim', 0),
      turns.ofNode('node-1').then((refs) => refs.filter((ref) => ref.tenant === tenant)),
      turns.askedToStop('node-1').then((asked) => asked.filter((one) => one.tenant === tenant)),
    ]),
  conversations: ({ conversations }, tenant) =>
    Promise.all([
      ...['c', 'd', 'old', 'fork'].map((id) => conversations.get(tenant, id)),
      conversations.heads(tenant, ['c', 'd', 'old', 'fork']),
      conversations.list({ tenant, key: null, kind: 'query', before: null, limit: 100 }),
      conversations.list({ tenant, key: 'key-1', kind: 'query', before: { createdAt: 9e15, id: '' }, limit: 100 }),
    ]),
  approvals: ({ approvals }, tenant) =>
    Promise.all([
      approvals.get(tenant, 'approval one'),
      approvals.list({ tenant, key: null, status: null, before: null, limit: 100 }),
      approvals.list({ tenant, key: 'key-1', status: 'pending', before: { createdAt: 9e15, id: '' }, limit: 100 }),
      approvals.ofTurn(tenant, 'turn of c'),
      approvals.rules(tenant, 'c'),
      approvals.settledOf(['one', 'two'].map((name) => ({ tenant, id: `approval ${name}` }))),
    ]),
  images: ({ images }, tenant) =>
    Promise.all(['c', 'd'].flatMap((id) => [images.ofConversation(tenant, id), images.pathsOf(tenant, id)])),
  transcripts: ({ transcripts }, tenant) =>
    Promise.all([
      transcripts.load({ tenant, session: 's', subpath: '' }),
      transcripts.load({ tenant, session: 's', subpath: 'side' }),
      transcripts.has(tenant, 's'),
      transcripts.subpaths(tenant, 's'),
    ]),
  usage: ({ usage }, tenant) =>
    Promise.all([
      usage.ofTurn({ tenant, conversation: 'c', turn: 'turn of c', epoch: 1 }),
      usage.ofConversation(tenant, 'c'),
      usage.byDay({ tenant, key: null, from: '1970-01-01', to: '9999-12-31' }),
      usage.byDay({ tenant, key: 'key-1', from: '1970-01-01', to: '9999-12-31' }),
    ]),
  keys: ({ keys }, tenant) =>
    Promise.all([
      keys.get(tenant, 'key-1'),
      keys.list(tenant),
      ...['first', 'second', 'third'].map((hash) => keys.byHash(`${hash} of ${tenant}`)),
    ]),
  tenants: ({ tenants }, tenant) => tenants.get(tenant),
  budgets: ({ budgets }, tenant) => {
    const account = { tenant, key: null, conversation: null, since: 0 };
    const turn = { tenant, conversation: 'c', turn: 'turn of c' };
    return Promise.all([
      budgets.reserved(turn),
      budgets.standing(account, null),
      budgets.standing({ ...account, key: 'key-1' }, turn),
      budgets.standing({ ...account, conversation: 'c' }, null),
    ]);
  },
  // Of all tenants, each of which is named in it.
  stops: async ({ stops }, tenant) => (await stops.list()).filter((stop) => stop.tenant === tenant),
  jobs: ({ jobs }, tenant) =>
    Promise.all([
      ...['job', 'done', 'new'].flatMap((id) => [jobs.get(tenant, id), jobs.request(tenant, id)]),
      jobs.claimed(tenant, 'key-1', 'job', 0),
      jobs.list({ tenant, key: null, status: null, before: null, limit: 100 }),
      jobs.list({ tenant, key: 'key-1', status: 'queued', before: { createdAt: 9e15, id: '' }, limit: 100 }),
    ]),
  // A ticket is read by taking it, which is a change.
  tickets: async () => null,
  audit: ({ audit }, tenant) => audit.read(tenant, 0, 1000),
  deliveries: ({ deliveries }, tenant) =>
    Promise.all([
      deliveries.list({ tenant, state: null, before: null, limit: 100 }),
      deliveries.list({ tenant, state: 'pending', before: { createdAt: 9e15, id: '' }, limit: 100 }),
    ]),
  webhookSecrets: ({ webhookSecrets }, tenant) => webhookSecrets.get(tenant),
};

async function snapshot(stores: AllStores, tenant: string): Promise<Record<string, unknown>> {
  const read = Object.entries(readers).map(async ([name, reader]) => [name, await reader(stores, tenant)] as const);
  return Object.fromEntries(await Promise.all(read));
}

/** Every tenant is named so, and so is all that it keeps. */
const marks = (value: unknown) => new Set((JSON.stringify(value) ?? '').match(/canary-\d+/gu));

/** Does everything that the stores can do, as each of many tenants, and finds that no other one sees any of it. */
export async function neverMeet(stores: AllStores): Promise<void> {
  const nothing = await snapshot(stores, 'nobody');
  const tenants = Array.from({ length: 50 }, (_, index) => `canary-${index}`);
  await Promise.all(tenants.map((tenant, index) => seed(stores, tenant, index)));
  await stores.conversations.endIdle(1000, 1000);
  const before = new Map<string, unknown>();
  for (const tenant of tenants) {
    const seen = await snapshot(stores, tenant);
    deepStrictEqual(marks(seen), new Set([tenant]));
    for (const name of Object.keys(readers)) {
      if (name !== 'tickets') notDeepStrictEqual(seen[name], nothing[name], `${name} of ${tenant} show nothing`);
    }
    before.set(tenant, seen);
  }
  deepStrictEqual(await snapshot(stores, 'nobody'), nothing);

  const actor = tenants[25] ?? '';
  await changeAs(stores, 'nobody', before);
  await changeAs(stores, actor, before);
  await sweepAll(stores);
  for (const tenant of tenants.filter((one) => one !== actor)) {
    deepStrictEqual(await stores.tickets.take(`ticket of ${tenant}`, 0), { tenant, key: 'key-1', secretHash: null });
  }
}

/** Every change through one tenant, after which all others read what they read before. */
async function changeAs(stores: AllStores, actor: string, before: Map<string, unknown>): Promise<void> {
  const others = [...before.keys()].filter((tenant) => tenant !== actor);
  const assertUntouched = async (tenants: readonly string[], where: string) => {
    for (const tenant of tenants) {
      deepStrictEqual(await snapshot(stores, tenant), before.get(tenant), `${where}, changed ${tenant}`);
    }
  };
  for (const [store, ofStore] of Object.entries(changes)) {
    for (const [name, change] of Object.entries(ofStore)) {
      const where = `${store}.${name} as ${actor}`;
      const own = await snapshot(stores, actor);
      if (before.has(actor)) {
        deepStrictEqual(
          [...marks(await change(stores, actor))].filter((mark) => mark !== actor),
          [],
          where,
        );
        if (store !== 'tickets') notDeepStrictEqual(await snapshot(stores, actor), own, `${where}, changed nothing`);
      } else {
        const said = await change(stores, actor).catch(refusal);
        deepStrictEqual(marks(said), new Set(), where);
      }
      // The first and the last, as the others take long.
      await assertUntouched([...others.slice(0, 1), ...others.slice(-1)], where);
    }
  }
  await assertUntouched(others, `everything as ${actor}`);
}

/** Nobody has no turn to write. */
function refusal(error: unknown): null {
  ok(error instanceof StaleEpochError, String(error));
  return null;
}

/** Runs jobs of whatever tenants, and gives what was shown of them. */
async function runJobs({ jobs }: AllStores): Promise<unknown[][]> {
  const taken = [];
  for (const at of [8e15, 9e15]) {
    const job = await jobs.take({ node: 'node-1', at, perTenant: 0, conversation: 'run' });
    if (job !== null) taken.push({ ...job, node: 'node-1', conversation: 'run' });
  }
  const running = await jobs.running('node-1');
  const [first, second] = taken;
  ok(first && second);
  await jobs.begun(first);
  await jobs.cancelRun(second.tenant, 'run');
  await jobs.retry(first, { runAt: 1, counts: true, error: '', code: 'not_ready' });
  const lost = await jobs.takeLost('node-2');
  const end = { status: 'completed', at: 1, begun: true, error: null, code: null } as const;
  await jobs.finish({ ...second, node: 'node-2' }, end, toldOf('end', second.tenant));
  ok((await jobs.sweep(9e15, 100)) > 0);
  return [taken, running, lost];
}

/** The list of nodes is of no tenant. */
async function beatAll({ nodes }: AllStores): Promise<void> {
  await nodes.join('node-1', 'place');
  await nodes.beat('node-1');
  const [seen] = await nodes.list();
  strictEqual(await nodes.evict({ id: 'node-1', beat: (seen?.beat ?? 0) + 1 }), false);
  deepStrictEqual(await nodes.evictPlace('place'), ['node-1']);
  await nodes.leave('node-1');
  strictEqual(await nodes.keptPlace('files'), 'files');
}

/** What is done for all tenants at once names each row's own. */
async function sweepAll(stores: AllStores): Promise<void> {
  const { turns, conversations, approvals, keys, budgets, tickets, deliveries } = stores;
  await beatAll(stores);
  const rows: unknown[][] = [
    await keys.changedSince(0),
    await conversations.listEnded(9e15, 1000),
    await turns.takeUnfinished('node-2'),
    await approvals.expire(9e15, 1000),
    [await deliveries.take({ now: 9e15, until: 9e15, exceptHosts: ['x'], exceptTenants: ['x'] })],
  ];
  rows.push(...(await runJobs(stores)));
  for (const found of rows) {
    ok(found.length > 0);
    for (const row of found) strictEqual(marks(row).size <= 1, true, JSON.stringify(row));
  }
  ok((await turns.sweepClaims(9e15, 1000)) > 0);
  ok((await deliveries.sweep(9e15, 1000)) > 0);
  await budgets.releaseEnded();
  await tickets.sweep(-1);
  await turns.check();
}
