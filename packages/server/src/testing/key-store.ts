import { deepStrictEqual, rejects, strictEqual } from 'node:assert/strict';
import { chainStart, verifyChain } from '../engine/audit-chain.ts';
import { systemClock } from '../engine/clock.ts';
import { KeyTakenError, type AuditEntry, type AuditStore, type KeyRecord, type KeyStore } from '../engine/ports.ts';
import { anEntry } from './audit-entries.ts';
import { declare, type MakeStore, type Promises } from './contract.ts';

interface Stores {
  readonly keys: KeyStore;
  readonly audit: AuditStore;
}

/** What every `KeyStore` promises, on `systemClock`. */
export function keyStoreContract(makeStore: MakeStore<Stores>): void {
  declare('key store', promises, makeStore);
}

const aKey = (id: string, part: Partial<KeyRecord> = {}): KeyRecord => ({
  tenant: 'default',
  id,
  name: `name of ${id}`,
  role: 'user',
  narrowing: null,
  createdAt: 1_700_000_000_000,
  createdBy: 'admin',
  expiresAt: null,
  revokedAt: null,
  ...part,
});

const narrowing: KeyRecord['narrowing'] = {
  permissionModes: ['readOnly'],
  tools: [],
  models: ['some-model'],
  workspaceRoots: ['/some/where'],
  rates: { perMinute: 0 },
  budgets: { perRun: 0.5, perDay: null, perMonth: 0 },
};

const unfit: AuditEntry = { ...anEntry('unfit'), actor: null as unknown as string };

async function subjects({ audit }: Stores): Promise<(string | null)[]> {
  const rows = await audit.read(null, 0, 1000);
  strictEqual(verifyChain(rows, chainStart), null);
  return rows.map(({ subject }) => subject);
}

const promises: Promises<Stores> = {
  'a key comes back as it was, by its hash and by its id': async ({ keys }) => {
    const kept = [aKey('a', { narrowing, expiresAt: 5, role: 'viewer' }), aKey('b', { revokedAt: 7 }), aKey('c')];
    for (const key of kept) {
      await keys.create(key, `hash of ${key.id}`);
      deepStrictEqual(await keys.byHash(`hash of ${key.id}`), key);
      deepStrictEqual(await keys.get('default', key.id), key);
    }
    strictEqual(await keys.byHash('hash of nobody'), null);
    strictEqual(await keys.byHash('a'), null);
    strictEqual(await keys.get('default', 'nobody'), null);
  },

  'keys are listed newest first, revoked ones too': async ({ keys }) => {
    const kept = [
      aKey('b', { createdAt: 3 }),
      aKey('c', { createdAt: 2 }),
      aKey('a', { createdAt: 2, revokedAt: 9 }),
      aKey('d', { createdAt: 1 }),
    ];
    for (const key of kept.toReversed()) await keys.create(key, key.id);
    await keys.create(aKey('x', { tenant: 'other' }), 'x');
    deepStrictEqual(await keys.list('default'), kept);
    deepStrictEqual(await keys.list('nobody'), []);
  },

  'a hash, an id and a name are taken once, and a refused key leaves nothing': async ({ keys }) => {
    await keys.create(aKey('a'), 'hash');
    const refused: [KeyRecord, string][] = [
      [aKey('b'), 'hash'],
      [aKey('b', { tenant: 'other' }), 'hash'],
      [aKey('a', { name: 'another' }), 'another'],
      [aKey('b', { name: 'name of a' }), 'another'],
    ];
    for (const [key, hash] of refused) await rejects(keys.create(key, hash), KeyTakenError);
    deepStrictEqual(await keys.list('default'), [aKey('a')]);
    deepStrictEqual(await keys.list('other'), []);
    strictEqual(await keys.byHash('another'), null);
    await keys.create(aKey('a', { tenant: 'other' }), 'another');
  },

  'of twenty keys that want one name at once, one is made': async ({ keys }) => {
    const ids = Array.from({ length: 20 }, (_, index) => `k${index}`);
    const results = await Promise.allSettled(ids.map((id) => keys.create(aKey(id, { name: 'wanted' }), id)));
    strictEqual(results.filter(({ status }) => status === 'fulfilled').length, 1);
    for (const result of results) if (result.status === 'rejected') strictEqual(result.reason.name, 'KeyTakenError');
    strictEqual((await keys.list('default')).length, 1);
  },

  'a revoked key gives its name free, but never its hash': async ({ keys }) => {
    await keys.create(aKey('a', { name: 'wanted' }), 'hash a');
    strictEqual(await keys.revoke('default', 'a', 50), true);
    await rejects(keys.create(aKey('b', { name: 'wanted' }), 'hash a'), KeyTakenError);
    await keys.create(aKey('b', { name: 'wanted' }), 'hash b');
    await keys.revoke('default', 'b', 60);
    await keys.create(aKey('c', { name: 'wanted' }), 'hash c');
    deepStrictEqual(await keys.byHash('hash a'), aKey('a', { name: 'wanted', revokedAt: 50 }));
  },

  'a key that has expired keeps its name': async ({ keys }) => {
    await keys.create(aKey('a', { name: 'wanted', expiresAt: 1 }), 'hash a');
    await rejects(keys.create(aKey('b', { name: 'wanted' }), 'hash b'), KeyTakenError);
  },

  'a key is revoked once, and has no other expiry after that': async ({ keys }) => {
    await keys.create(aKey('a'), 'hash');
    await keys.create(aKey('a', { tenant: 'other' }), 'another');
    strictEqual(await keys.expire('default', 'a', 40), true);
    strictEqual(await keys.expire('default', 'a', 41), true);
    const tries = await Promise.all([50, 51, 52].map((at) => keys.revoke('default', 'a', at)));
    deepStrictEqual(tries, [true, false, false]);
    strictEqual(await keys.expire('default', 'a', 42), false);
    deepStrictEqual(await keys.get('default', 'a'), aKey('a', { expiresAt: 41, revokedAt: 50 }));
    for (const [tenant, id] of [
      ['default', 'nobody'],
      ['nobody', 'a'],
    ] as const) {
      strictEqual(await keys.expire(tenant, id, 40), false);
      strictEqual(await keys.revoke(tenant, id, 40), false);
    }
    deepStrictEqual(await keys.get('other', 'a'), aKey('a', { tenant: 'other' }));
  },

  'what changed since a time is found in all tenants, whenever it takes effect': async ({ keys }) => {
    const before = systemClock.now();
    for (const id of ['made', 'expiring', 'revoked']) await keys.create(aKey(id), id);
    await keys.create(aKey('expiring', { tenant: 'other' }), 'other');
    deepStrictEqual(await keys.changedSince(before), []);
    await keys.expire('default', 'expiring', before + 1e9);
    await keys.expire('other', 'expiring', 1);
    await keys.revoke('default', 'revoked', 2);
    await keys.revoke('default', 'revoked', 3);
    const after = systemClock.now();
    const changed = await keys.changedSince(before);
    const names = changed.map(({ tenant, id, expiresAt, revokedAt }) => [tenant, id, expiresAt, revokedAt].join(' '));
    deepStrictEqual(names.toSorted(), [`default expiring ${before + 1e9} `, 'default revoked  2', 'other expiring 1 ']);
    deepStrictEqual(await keys.changedSince(after + 1), []);
  },

  'a change has its line in the audit log, and what changes nothing has none': async (stores) => {
    const { keys } = stores;
    await keys.create(aKey('a'), 'hash', anEntry('create'));
    await rejects(keys.create(aKey('a'), 'hash', anEntry('no')), KeyTakenError);
    strictEqual(await keys.expire('default', 'a', 1, anEntry('expire')), true);
    strictEqual(await keys.revoke('default', 'a', 2, anEntry('revoke')), true);
    strictEqual(await keys.revoke('default', 'a', 3, anEntry('no')), false);
    strictEqual(await keys.expire('default', 'a', 4, anEntry('no')), false);
    deepStrictEqual(await subjects(stores), ['create', 'expire', 'revoke']);
  },

  'nothing changes when its line cannot be stored': async (stores) => {
    const { keys } = stores;
    await rejects(keys.create(aKey('a'), 'hash', unfit));
    strictEqual(await keys.byHash('hash'), null);
    await keys.create(aKey('a'), 'hash');
    await rejects(keys.expire('default', 'a', 1, unfit));
    await rejects(keys.revoke('default', 'a', 1, unfit));
    deepStrictEqual(await keys.get('default', 'a'), aKey('a'));
    deepStrictEqual(await keys.changedSince(0), []);
    deepStrictEqual(await subjects(stores), []);
  },
};
