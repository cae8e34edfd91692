import { deepStrictEqual, ok, rejects, strictEqual } from 'node:assert/strict';
import type {
  AuditStore,
  DeliveryStore,
  DueDelivery,
  NewDelivery,
  StoredDelivery,
  WebhookSecretStore,
} from '../engine/ports.ts';
import { anEntry, auditSubjects, unfitEntry } from './audit-entries.ts';
import { declare, type MakeStore, type Promises } from './contract.ts';

interface Stores {
  readonly deliveries: DeliveryStore;
  readonly webhookSecrets: WebhookSecretStore;
  readonly audit: AuditStore;
}

/** What every `DeliveryStore` and `WebhookSecretStore` promises. */
export function webhookStoresContract(makeStore: MakeStore<Stores>): void {
  declare('delivery store', delivering, makeStore);
  declare('webhook secret store', secrets, makeStore);
}

const at = 1_700_000_000_000;

/** A message of the tenant `default` that was made just now. */
export const aDelivery = (id: string, part: Partial<NewDelivery> = {}): NewDelivery => ({
  tenant: 'default',
  id,
  type: 'job.completed',
  job: 'job-1',
  url: 'https://hooks.example.com/in?x=1',
  body: '{"type":"job.completed"}',
  createdAt: at,
  ...part,
});

/** The same as it is stored before its first try. */
export const asStored = (id: string, part: Partial<StoredDelivery> = {}): StoredDelivery => {
  const made = aDelivery(id, part);
  return {
    ...made,
    state: 'pending',
    tries: 0,
    dueAt: made.createdAt,
    status: null,
    problem: null,
    endedAt: null,
    ...part,
  };
};

const line = anEntry('line');

const takeAt = (now: number, part: Partial<DueDelivery> = {}): DueDelivery => ({
  now,
  until: now + 60_000,
  exceptHosts: [],
  exceptTenants: [],
  ...part,
});

const all = (tenant = 'default') => ({ tenant, state: null, before: null, limit: 100 });

async function onlyOne({ deliveries }: Stores, id: string): Promise<StoredDelivery> {
  const found = (await deliveries.list(all())).filter((one) => one.id === id);
  strictEqual(found.length, 1);
  return found[0] as StoredDelivery;
}

/** Takes what must be due. */
async function taken({ deliveries }: Stores, due: DueDelivery): Promise<StoredDelivery> {
  const found = await deliveries.take(due);
  ok(found);
  return found;
}

const delivering: Promises<Stores> = {
  'a message comes back as it was made, and is due at once': async (stores) => {
    const { deliveries } = stores;
    const made = aDelivery('a', { body: '{"text":"quote \' \\" \\\\ 👩‍👩‍👧 \u2028"}', url: 'http://[::1]:8080/?a=%20' });
    await deliveries.add(made);
    deepStrictEqual(await deliveries.list(all()), [asStored('a', made)]);
    strictEqual(await deliveries.take(takeAt(at - 1)), null);
    deepStrictEqual(await deliveries.take(takeAt(at)), asStored('a', { ...made, tries: 1, dueAt: at + 60_000 }));
  },

  'a message that is added again is the one that is there': async ({ deliveries }) => {
    await deliveries.add(aDelivery('a'));
    await deliveries.add(aDelivery('a', { body: 'other' }));
    await deliveries.add(aDelivery('a', { tenant: 'other', body: 'of another' }));
    deepStrictEqual(await deliveries.list(all()), [asStored('a')]);
    deepStrictEqual(await deliveries.list(all('other')), [asStored('a', { tenant: 'other', body: 'of another' })]);
  },

  'of many that take at once, each gets another one, those due the longest first': async (stores) => {
    const ids = Array.from({ length: 10 }, (_, index) => `id-${index}`);
    for (const [index, id] of ids.entries()) await stores.deliveries.add(aDelivery(id, { createdAt: at + index }));
    const takers = Array.from({ length: 20 }, () => stores.deliveries.take(takeAt(at + 100)));
    const found = (await Promise.all(takers)).flatMap((one) => (one === null ? [] : [one.id]));
    deepStrictEqual(found.toSorted(), ids);
    await stores.deliveries.add(aDelivery('late', { createdAt: at + 50 }));
    await stores.deliveries.add(aDelivery('early', { createdAt: at + 40 }));
    strictEqual((await taken(stores, takeAt(at + 100))).id, 'early');
    strictEqual((await taken(stores, takeAt(at + 100))).id, 'late');
  },

  'hosts and tenants that are to be left are left': async (stores) => {
    const { deliveries } = stores;
    const busy = { exceptHosts: ['busy.example.com', 'other.example.com:8443'], exceptTenants: ['noisy', 'loud'] };
    await deliveries.add(aDelivery('a', { url: 'https://busy.example.com/' }));
    await deliveries.add(aDelivery('b', { url: 'https://other.example.com:8443/' }));
    await deliveries.add(aDelivery('c', { tenant: 'noisy' }));
    strictEqual(await deliveries.take(takeAt(at, busy)), null);
    await deliveries.add(aDelivery('d', { url: 'https://other.example.com/' }));
    strictEqual((await taken(stores, takeAt(at, busy))).id, 'd');
    strictEqual(await deliveries.take(takeAt(at, busy)), null);
  },

  'what was taken and not noted is due again under the same id': async (stores) => {
    await stores.deliveries.add(aDelivery('a'));
    const first = await taken(stores, takeAt(at));
    strictEqual(await stores.deliveries.take(takeAt(at + 59_999)), null);
    const second = await taken(stores, takeAt(at + 60_000));
    deepStrictEqual([second.id, second.body, second.tries], [first.id, first.body, 2]);
  },

  'what failed is due when it was said, and what is given up is dead': async (stores) => {
    const { deliveries } = stores;
    await deliveries.add(aDelivery('a'));
    const first = await taken(stores, takeAt(at));
    await deliveries.failed(first, { problem: 'status', status: 500 }, at + 1, at + 500);
    deepStrictEqual(
      await onlyOne(stores, 'a'),
      asStored('a', { tries: 1, dueAt: at + 500, status: 500, problem: 'status' }),
    );
    strictEqual(await deliveries.take(takeAt(at + 499)), null);
    const second = await taken(stores, takeAt(at + 500));
    await deliveries.failed(second, { problem: 'timeout', status: null }, at + 600, null);
    const dead = asStored('a', { state: 'dead', tries: 2, dueAt: null, problem: 'timeout', endedAt: at + 600 });
    deepStrictEqual(await onlyOne(stores, 'a'), dead);
    strictEqual(await deliveries.take(takeAt(at + 1e9)), null);
  },

  'what arrived is delivered, also when another try of it has begun, and no failure changes that': async (stores) => {
    const { deliveries } = stores;
    await deliveries.add(aDelivery('a'));
    const first = await taken(stores, takeAt(at));
    const second = await taken(stores, takeAt(at + 60_000));
    await deliveries.failed(first, { problem: 'timeout', status: null }, at + 60_001, null);
    strictEqual((await onlyOne(stores, 'a')).state, 'pending', 'the first try does not speak for the second');
    await deliveries.delivered(first, 204, at + 60_002);
    await deliveries.failed(second, { problem: 'status', status: 500 }, at + 60_003, null);
    await deliveries.delivered(second, 200, at + 60_004);
    const end = { state: 'delivered', tries: 2, dueAt: null, status: 204, endedAt: at + 60_002 } as const;
    deepStrictEqual(await onlyOne(stores, 'a'), asStored('a', end));
  },

  'a message in whatever state is redelivered as it was, with a line': async (stores) => {
    const { deliveries, audit } = stores;
    for (const id of ['delivered', 'dead', 'waiting']) await deliveries.add(aDelivery(id));
    for (let count = 0; count < 3; count += 1) {
      const one = await taken(stores, takeAt(at));
      if (one.id === 'delivered') await deliveries.delivered(one, 200, at);
      else await deliveries.failed(one, { problem: 'status', status: 410 }, at, one.id === 'dead' ? null : at + 1e6);
    }
    for (const id of ['delivered', 'dead', 'waiting']) {
      const again = await deliveries.redeliver('default', id, at + 7, anEntry(`again ${id}`));
      deepStrictEqual([again?.state, again?.tries, again?.dueAt, again?.endedAt], ['pending', 0, at + 7, null]);
      const { body, tries } = await taken(stores, takeAt(at + 7));
      deepStrictEqual([body, tries], [aDelivery('a').body, 1]);
    }
    strictEqual(await deliveries.redeliver('default', 'nobody', at, anEntry('no')), null);
    strictEqual(await deliveries.redeliver('other', 'dead', at, anEntry('no')), null);
    await rejects(deliveries.redeliver('default', 'dead', at + 8, unfitEntry));
    strictEqual((await onlyOne(stores, 'dead')).tries, 1);
    deepStrictEqual(await auditSubjects(audit), ['again delivered', 'again dead', 'again waiting']);
  },

  'messages are listed newest first, page by page, of a state': async (stores) => {
    const { deliveries } = stores;
    const made = [1, 2, 2, 2, 3].map((age, index) => aDelivery(`id-${index}`, { createdAt: at + age }));
    for (const one of made) await deliveries.add(one);
    await deliveries.add(aDelivery('other', { tenant: 'other' }));
    const newest = ['id-4', 'id-3', 'id-2', 'id-1', 'id-0'];
    const seen: string[] = [];
    let before: { createdAt: number; id: string } | null = null;
    for (;;) {
      const page: StoredDelivery[] = await deliveries.list({ ...all(), before, limit: 2 });
      seen.push(...page.map(({ id }) => id));
      before = page.at(-1) ?? before;
      if (page.length < 2) break;
    }
    deepStrictEqual(seen, newest);
    await deliveries.delivered(await taken(stores, takeAt(at + 1, { exceptTenants: ['other'] })), 200, at);
    const ofState = async (state: StoredDelivery['state']) =>
      (await deliveries.list({ ...all(), state })).map(({ id }) => id);
    deepStrictEqual(await ofState('delivered'), ['id-0']);
    deepStrictEqual(await ofState('pending'), newest.slice(0, 4));
    deepStrictEqual(await ofState('dead'), []);
  },

  'what ended long ago is deleted, a few at a time, and what is pending stays': async (stores) => {
    const { deliveries } = stores;
    for (const id of ['a', 'b', 'c', 'd']) await deliveries.add(aDelivery(id, { createdAt: at + id.charCodeAt(0) }));
    for (const ended of [1, 2, 3]) await deliveries.delivered(await taken(stores, takeAt(at + 200)), 200, ended);
    strictEqual(await deliveries.sweep(1, 10), 0);
    strictEqual(await deliveries.sweep(9, 2), 2);
    deepStrictEqual(
      (await deliveries.list(all())).map(({ id }) => id),
      ['d', 'c'],
    );
    strictEqual(await deliveries.sweep(9, 2), 1);
    strictEqual(await deliveries.sweep(9e15, 2), 0);
    strictEqual((await onlyOne(stores, 'd')).state, 'pending');
  },
};

const secretOf = (sealed: string, createdAt: number) => ({ sealed, createdAt, createdBy: 'admin' });

const secrets: Promises<Stores> = {
  'a tenant has the last secret and the one before, each with its line': async ({ webhookSecrets, audit }) => {
    strictEqual(await webhookSecrets.get('default'), null);
    const first = { ...secretOf('one', 1), previous: null };
    deepStrictEqual(await webhookSecrets.rotate('default', secretOf('one', 1), 99, anEntry('one')), first);
    deepStrictEqual(await webhookSecrets.get('default'), first);
    await webhookSecrets.rotate('default', secretOf('two', 2), 50, anEntry('two'));
    const third = { ...secretOf('three', 3), previous: { sealed: 'two', until: 60 } };
    deepStrictEqual(await webhookSecrets.rotate('default', secretOf('three', 3), 60, anEntry('three')), third);
    deepStrictEqual(await webhookSecrets.get('default'), third);
    strictEqual(await webhookSecrets.get('other'), null);
    deepStrictEqual(await auditSubjects(audit), ['one', 'two', 'three']);
  },

  'nothing changes when its line cannot be stored': async ({ webhookSecrets }) => {
    await rejects(webhookSecrets.rotate('default', secretOf('one', 1), 9, unfitEntry));
    strictEqual(await webhookSecrets.get('default'), null);
    await webhookSecrets.rotate('default', secretOf('one', 1), 9, line);
    await rejects(webhookSecrets.rotate('default', secretOf('two', 2), 9, unfitEntry));
    deepStrictEqual(await webhookSecrets.get('default'), { ...secretOf('one', 1), previous: null });
  },
};
