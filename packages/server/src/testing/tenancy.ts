import { deepStrictEqual, notDeepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import { StaleEpochError } from '../engine/ports.ts';
import { declare, type MakeStore } from './contract.ts';
import { changes, seed, type AllStores } from './tenancy-changes.ts';

/** What all stores together promise about tenants. */
export function tenancyContract(makeStores: MakeStore<AllStores>): void {
  declare('tenants', { 'of fifty with equal names of everything, none meets another': neverMeet }, makeStores);
}

/** What is read through one tenant, by every reading method that names one. */
const readers: Record<keyof AllStores, (stores: AllStores, tenant: string) => Promise<unknown>> = {
  turns: ({ turns }, tenant) =>
    Promise.all([
      ...['c', 'd', 'old'].map((id) => turns.get(tenant, `turn of ${id}`)),
      ...['c', 'd', 'old', 'fork'].map((id) => turns.read(tenant, id, 0, 100)),
      turns.claimed(tenant, 'key-1', 'claim', 0),
    ]),
  conversations: ({ conversations }, tenant) =>
    Promise.all([
      ...['c', 'd', 'old', 'fork'].map((id) => conversations.get(tenant, id)),
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
  // A ticket is read by taking it, which is a change.
  tickets: async () => null,
  audit: ({ audit }, tenant) => audit.read(tenant, 0, 1000),
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

/** What is done for all tenants at once names each row's own. */
async function sweepAll({ turns, conversations, approvals, keys, budgets, tickets }: AllStores): Promise<void> {
  const rows: unknown[][] = [
    await keys.changedSince(0),
    await conversations.listEnded(9e15, 1000),
    await turns.takeUnfinished(),
    await approvals.expire(9e15, 1000),
    await approvals.settledSince(0),
  ];
  for (const found of rows) {
    ok(found.length > 0);
    for (const row of found) strictEqual(marks(row).size <= 1, true, JSON.stringify(row));
  }
  ok((await turns.sweepClaims(9e15, 1000)) > 0);
  await budgets.releaseEnded();
  await tickets.sweep(-1);
  await turns.check();
}
