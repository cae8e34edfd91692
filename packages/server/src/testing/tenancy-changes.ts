import type { TurnRef } from '../engine/ports.ts';
import type { Stores } from '../stores/stores.ts';
import { anEntry } from './audit-entries.ts';
import { aJob, toldOf } from './job-samples.ts';
import { aKey } from './key-store.ts';
import { aStop } from './stop-store.ts';
import { aClaim, aNext, aText, anAccept, anApproval, anEnd } from './turns.ts';
import { aCall } from './usage-store.ts';
import { aDelivery, asStored } from './webhook-stores.ts';

/** All stores there are, over one database. */
export type AllStores = Omit<Stores, 'close'>;

/** Those that keep something of tenants. */
export type OfTenants = Exclude<keyof AllStores, 'nodes'>;

const at = 1_700_000_002_000;

/** Equal in all tenants, as are all names; but the hashes of secrets and tickets, and the ids of stops, cannot be. */
const refOf = (tenant: string, conversation: string): TurnRef => ({
  tenant,
  conversation,
  turn: `turn of ${conversation}`,
  epoch: 1,
});

/** A call whose cost differs from tenant to tenant. */
const callOf = (tenant: string, id: string, costUsd: number) => ({ ...aCall(id, refOf(tenant, 'c')), costUsd });

/** Gives a tenant something in every store: `c` waits for an approval, `d` is idle, `old` is to end. */
export async function seed(stores: AllStores, tenant: string, index: number): Promise<void> {
  const { turns, approvals, images, transcripts, usage, keys, tenants, budgets, stops, tickets, audit } = stores;
  const { deliveries, webhookSecrets } = stores;
  for (const id of ['job', 'done']) {
    await stores.jobs.create(
      aJob(id, { tenant, key: 'key-1', webhookUrl: `https://${tenant}/` }),
      10,
      aClaim(id),
      anEntry(id, tenant),
    );
  }
  const line = anEntry(`line of ${tenant}`, tenant);
  await tenants.create({ id: tenant, createdAt: index, budgets: null }, line);
  await keys.create(aKey('key-1', { tenant, createdAt: index }), `first of ${tenant}`, line);
  await keys.rotate(tenant, 'key-1', `second of ${tenant}`, index, line);
  const { ref } = await turns.accept({ ...anAccept('c', tenant, [aText(tenant)]), claim: aClaim('claim') });
  await turns.begin(ref, at);
  await images.before(ref, 'file', tenant);
  for (const name of ['one', 'two', 'three']) {
    const [approval, event] = anApproval(ref, name);
    await approvals.request(ref, { ...approval, reason: tenant }, event);
  }
  await approvals.decide(tenant, 'approval two', allow(tenant));
  for (const id of ['d', 'old']) {
    const { ref: other } = await turns.accept(anAccept(id, tenant, [aText(tenant)]));
    await turns.finish(other, { ...anEnd, at: id === 'old' ? 1 : anEnd.at });
  }
  for (const subpath of ['', 'side'])
    await transcripts.append({ tenant, session: 's', subpath }, [{ uuid: 'u', tenant }]);
  await usage.record(callOf(tenant, 'call', index));
  await budgets.reserve({ turn: ref, key: 'key-1', node: 'node-1' }, 1000 + index, []);
  await stops.add(aStop(`stop of ${tenant}`, { tenant, key: 'key-1', conversation: 'c' }), line);
  await tickets.put(`ticket of ${tenant}`, { tenant, key: 'key-1', secretHash: null, expiresAt: 1 });
  await audit.append([line]);
  for (const id of ['one', 'two']) await deliveries.add(aDelivery(id, { tenant, body: tenant }));
  const sealed = { sealed: `first of ${tenant}`, createdAt: index, createdBy: 'admin' };
  await webhookSecrets.rotate(tenant, sealed, 0, line);
}

const allow = (tenant: string) => ({
  status: 'allowed' as const,
  at,
  by: 'key-1',
  decision: { message: tenant, input: null, rule: `Edit(${tenant})` },
});

type Change = (stores: AllStores, tenant: string) => Promise<unknown>;

/** Every changing method, each as a change of what `seed` made. They are done in this order. */
export const changes: Record<OfTenants, Readonly<Record<string, Change>>> = {
  approvals: {
    request: ({ approvals }, tenant) => {
      const ref = refOf(tenant, 'c');
      return approvals.request(ref, ...anApproval(ref, 'four'));
    },
    decide: ({ approvals }, tenant) => approvals.decide(tenant, 'approval one', allow(tenant), anEntry('a', tenant)),
  },
  images: {
    before: async ({ images }, tenant) => images.before(refOf(tenant, 'c'), 'another', tenant),
  },
  usage: {
    record: async ({ usage }, tenant) => usage.record(callOf(tenant, 'next', 1)),
  },
  budgets: {
    reserve: async ({ budgets }, tenant) => {
      const account = { tenant, key: 'key-1', conversation: 'c', since: 0 };
      return budgets.reserve({ turn: refOf(tenant, 'c'), key: 'key-1', node: 'node-1' }, 9, [{ account, usd: 5000 }]);
    },
    release: async ({ budgets }, tenant) => budgets.release(refOf(tenant, 'c')),
  },
  turns: {
    append: ({ turns }, tenant) =>
      turns.append(refOf(tenant, 'c'), at, [aText('more')], 'running', [anEntry('more', tenant)]),
    count: async ({ turns }, tenant) => turns.count(refOf(tenant, 'c'), { batches: 7, activeMs: 7 }),
    askStop: ({ turns }, tenant) => turns.askStop(tenant, 'c'),
    giveUp: ({ turns }, tenant) => turns.giveUp(refOf(tenant, 'c')),
    finish: ({ turns }, tenant) => {
      const files = [{ path: 'file', content: tenant }];
      return turns.finish(refOf(tenant, 'c'), { ...anEnd, nothingRan: true, files });
    },
    acceptNext: ({ turns }, tenant) => turns.acceptNext({ ...aNext('c', 'next', tenant), claim: aClaim('claim') }),
    withdraw: ({ turns }, tenant) => turns.withdraw({ ...refOf(tenant, 'c'), turn: 'next', epoch: 2 }),
  },
  conversations: {
    fork: ({ conversations }, tenant) =>
      conversations.fork({ tenant, from: 'd', epoch: 1, id: 'fork', key: 'key-1', sdkSession: 'fork', at }),
    end: ({ conversations }, tenant) => conversations.end(tenant, 'd'),
    bury: ({ conversations }, tenant) => conversations.bury(tenant, 'old'),
    delete: ({ conversations }, tenant) => conversations.delete(tenant, 'd'),
  },
  transcripts: {
    append: async ({ transcripts }, tenant) =>
      transcripts.append({ tenant, session: 's', subpath: '' }, [{ uuid: 'u' }, { uuid: 'v', tenant }]),
    delete: async ({ transcripts }, tenant) => transcripts.delete(tenant, 's'),
  },
  keys: {
    change: ({ keys }, tenant) => keys.change(tenant, 'key-1', { expiresAt: 9 }, anEntry('change', tenant)),
    rotate: ({ keys }, tenant) => keys.rotate(tenant, 'key-1', `third of ${tenant}`, 8, anEntry('rotate', tenant)),
    revoke: ({ keys }, tenant) => keys.revoke(tenant, 'key-1', 7, anEntry('revoke', tenant)),
  },
  tenants: {
    setBudgets: ({ tenants }, tenant) =>
      tenants.setBudgets(tenant, { run: 1, conversation: null, day: null, month: null }, anEntry('budgets', tenant)),
  },
  stops: {
    lift: ({ stops }, tenant) => stops.lift(`stop of ${tenant}`, () => anEntry('lift', tenant)),
  },
  jobs: {
    create: ({ jobs }, tenant) => jobs.create(aJob('new', { tenant }), 10, aClaim('new'), anEntry('new', tenant)),
    cancel: ({ jobs }, tenant) => jobs.cancel(tenant, 'done', at, toldOf('done', tenant)),
  },
  tickets: {
    take: ({ tickets }, tenant) => tickets.take(`ticket of ${tenant}`, 0),
  },
  audit: {
    append: async ({ audit }, tenant) => audit.append([anEntry('line', tenant)]),
  },
  deliveries: {
    add: async ({ deliveries }, tenant) => deliveries.add(aDelivery('three', { tenant })),
    failed: async ({ deliveries }, tenant) =>
      deliveries.failed(asStored('one', { tenant }), { problem: 'timeout', status: null }, at, null),
    redeliver: ({ deliveries }, tenant) => deliveries.redeliver(tenant, 'one', at, anEntry('again', tenant)),
    delivered: async ({ deliveries }, tenant) => deliveries.delivered(asStored('two', { tenant }), 200, at),
  },
  webhookSecrets: {
    rotate: ({ webhookSecrets }, tenant) => {
      const sealed = { sealed: `second of ${tenant}`, createdAt: at, createdBy: 'admin' };
      return webhookSecrets.rotate(tenant, sealed, at, anEntry('secret', tenant));
    },
  },
};
