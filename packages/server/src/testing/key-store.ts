import { deepStrictEqual, rejects, strictEqual } from 'node:assert/strict';
import { systemClock } from '../engine/clock.ts';
import { KeyTakenError, type AuditStore, type KeyRecord, type KeyStore } from '../engine/ports.ts';
import { anEntry, auditSubjects, unfitEntry } from './audit-entries.ts';
import { declare, type MakeStore, type Promises } from './contract.ts';

interface Stores {
  readonly keys: KeyStore;
  readonly audit: AuditStore;
}

/** What every `KeyStore` promises, on `systemClock`. */
export function keyStoreContract(makeStore: MakeStore<Stores>): void {
  declare('key store', { ...made, ...secrets, ...changes }, makeStore);
}

/** A key to make. */
export const aKey = (name: string, part: Partial<KeyRecord> = {}): KeyRecord => ({
  tenant: 'default',
  name,
  role: 'user',
  narrowing: null,
  createdAt: 1_700_000_000_000,
  createdBy: 'admin',
  expiresAt: null,
  revokedAt: null,
  previousUntil: null,
  ...part,
});

const narrowing: KeyRecord['narrowing'] = {
  permissionModes: ['readOnly'],
  tools: [],
  models: ['some-model'],
  workspaceRoots: ['/some/where'],
  rates: { perMinute: 0 },
  budgets: { run: 0.5, conversation: 0.1, day: null, month: 0 },
};

const line = anEntry('line');

/** Whose each hash is, and until when; null: nobody's. */
async function owners(keys: KeyStore, hashes: readonly string[]) {
  const found = await Promise.all(hashes.map((hash) => keys.byHash(hash)));
  return found.map((one) => one && [one.key.tenant, one.key.name, one.until]);
}

const made: Promises<Stores> = {
  'a key comes back as it was, by its hash and by its name': async ({ keys }) => {
    const kept = [aKey('a', { narrowing, expiresAt: 5, role: 'viewer' }), aKey('b', { revokedAt: 7 }), aKey('c')];
    for (const key of kept) {
      await keys.create(key, `hash of ${key.name}`, line);
      deepStrictEqual(await keys.byHash(`hash of ${key.name}`), { key, until: null });
      deepStrictEqual(await keys.get('default', key.name), key);
    }
    strictEqual(await keys.byHash('hash of nobody'), null);
    strictEqual(await keys.byHash('a'), null);
    strictEqual(await keys.get('default', 'nobody'), null);
    strictEqual(await keys.get('other', 'a'), null);
  },

  'keys are listed newest first, revoked ones too': async ({ keys }) => {
    const kept = [
      aKey('b', { createdAt: 3 }),
      aKey('c', { createdAt: 2 }),
      aKey('a', { createdAt: 2, revokedAt: 9 }),
      aKey('d', { createdAt: 1 }),
    ];
    for (const key of kept.toReversed()) await keys.create(key, key.name, line);
    await keys.create(aKey('x', { tenant: 'other' }), 'x', line);
    deepStrictEqual(await keys.list('default'), kept);
    deepStrictEqual(await keys.list('nobody'), []);
  },

  'a hash and a name are taken once, and a refused key leaves nothing': async ({ keys }) => {
    await keys.create(aKey('a'), 'hash', line);
    const refused: [KeyRecord, string][] = [
      [aKey('b'), 'hash'],
      [aKey('b', { tenant: 'other' }), 'hash'],
      [aKey('a', { role: 'viewer' }), 'another'],
    ];
    for (const [key, hash] of refused) await rejects(keys.create(key, hash, line), KeyTakenError);
    deepStrictEqual(await keys.list('default'), [aKey('a')]);
    deepStrictEqual(await keys.list('other'), []);
    strictEqual(await keys.byHash('another'), null);
    await keys.create(aKey('a', { tenant: 'other' }), 'another', line);
  },

  'of twenty keys that want one name at once, one is made': async ({ keys }) => {
    const hashes = Array.from({ length: 20 }, (_, index) => `hash ${index}`);
    const results = await Promise.allSettled(hashes.map((hash) => keys.create(aKey('wanted'), hash, line)));
    strictEqual(results.filter(({ status }) => status === 'fulfilled').length, 1);
    for (const result of results) if (result.status === 'rejected') strictEqual(result.reason.name, 'KeyTakenError');
    strictEqual((await keys.list('default')).length, 1);
    strictEqual((await owners(keys, hashes)).filter(Boolean).length, 1);
  },

  'neither a revoked key nor an expired one gives its name or its hash free': async ({ keys }) => {
    await keys.create(aKey('revoked'), 'hash of revoked', line);
    await keys.create(aKey('expired', { expiresAt: 1 }), 'hash of expired', line);
    strictEqual(await keys.revoke('default', 'revoked', 50, line), true);
    for (const name of ['revoked', 'expired']) {
      await rejects(keys.create(aKey(name), 'another', line), KeyTakenError);
      await rejects(keys.create(aKey('another'), `hash of ${name}`, line), KeyTakenError);
    }
    deepStrictEqual(await keys.byHash('hash of revoked'), { key: aKey('revoked', { revokedAt: 50 }), until: null });
    strictEqual((await keys.list('default')).length, 2);
  },
};

const secrets: Promises<Stores> = {
  'a rotated key has its new secret, and the one before it for a while': async ({ keys }) => {
    await keys.create(aKey('a', { narrowing, expiresAt: 900 }), 'first', line);
    strictEqual(await keys.rotate('default', 'a', 'second', 100, line), true);
    const key = aKey('a', { narrowing, expiresAt: 900, previousUntil: 100 });
    deepStrictEqual(await keys.byHash('first'), { key, until: 100 });
    deepStrictEqual(await keys.byHash('second'), { key, until: null });
    deepStrictEqual(await keys.get('default', 'a'), key);
    deepStrictEqual(await keys.list('default'), [key]);
  },

  'a secret is forgotten with the second rotation after it': async ({ keys }) => {
    await keys.create(aKey('a'), 'first', line);
    await keys.rotate('default', 'a', 'second', 100, line);
    await keys.rotate('default', 'a', 'third', 50, line);
    deepStrictEqual(await owners(keys, ['first', 'second', 'third']), [
      null,
      ['default', 'a', 50],
      ['default', 'a', null],
    ]);
  },

  'of twenty rotations at once, two secrets are left': async ({ keys }) => {
    await keys.create(aKey('a'), 'first', line);
    const hashes = Array.from({ length: 20 }, (_, index) => `hash ${index}`);
    const results = await Promise.all(hashes.map((hash, index) => keys.rotate('default', 'a', hash, index, line)));
    deepStrictEqual(new Set(results), new Set([true]));
    const left = (await owners(keys, ['first', ...hashes])).filter((one) => one !== null);
    const { previousUntil } = (await keys.get('default', 'a')) as KeyRecord;
    deepStrictEqual(new Set(left.map((one) => one[2])), new Set([previousUntil, null]));
    strictEqual(left.length, 2);
  },

  'a hash that any key has, or has until the next rotation, is given to no other': async ({ keys }) => {
    await keys.create(aKey('a'), 'first', line);
    await keys.rotate('default', 'a', 'second', 100, line);
    await keys.create(aKey('b', { tenant: 'other' }), 'of b', line);
    const taken = ['first', 'second', 'of b'];
    const before = await owners(keys, taken);
    for (const hash of taken) {
      await rejects(keys.create(aKey('c'), hash, line), KeyTakenError);
      await rejects(keys.rotate('default', 'a', hash, 200, line), KeyTakenError);
      await rejects(keys.rotate('other', 'b', hash, 200, line), KeyTakenError);
    }
    deepStrictEqual(await owners(keys, taken), before);
    deepStrictEqual(await keys.get('default', 'a'), aKey('a', { previousUntil: 100 }));
    deepStrictEqual(await keys.list('other'), [aKey('b', { tenant: 'other' })]);
  },

  'a key that is revoked is not rotated, and both its secrets name it still': async ({ keys }) => {
    await keys.create(aKey('a'), 'first', line);
    await keys.create(aKey('a', { tenant: 'other' }), 'of the other', line);
    await keys.rotate('default', 'a', 'second', 100, line);
    await keys.revoke('default', 'a', 60, line);
    strictEqual(await keys.rotate('default', 'a', 'third', 200, line), false);
    const key = aKey('a', { previousUntil: 100, revokedAt: 60 });
    deepStrictEqual(await keys.byHash('first'), { key, until: 100 });
    deepStrictEqual(await keys.byHash('second'), { key, until: null });
    strictEqual(await keys.byHash('third'), null);
    for (const [tenant, name] of nobody) strictEqual(await keys.rotate(tenant, name, 'third', 200, line), false);
    deepStrictEqual(await owners(keys, ['of the other']), [['other', 'a', null]]);
  },
};

const nobody = [
  ['default', 'nobody'],
  ['nobody', 'a'],
] as const;

const changes: Promises<Stores> = {
  'a change sets what it names': async ({ keys }) => {
    await keys.create(aKey('a'), 'hash', line);
    await keys.create(aKey('a', { tenant: 'other' }), 'another', line);
    strictEqual(await keys.change('default', 'a', { narrowing }, line), true);
    deepStrictEqual(await keys.get('default', 'a'), aKey('a', { narrowing }));
    strictEqual(await keys.change('default', 'a', { expiresAt: 40 }, line), true);
    deepStrictEqual(await keys.get('default', 'a'), aKey('a', { narrowing, expiresAt: 40 }));
    strictEqual(await keys.change('default', 'a', {}, line), true);
    deepStrictEqual(await keys.get('default', 'a'), aKey('a', { narrowing, expiresAt: 40 }));
    strictEqual(await keys.change('default', 'a', { narrowing: null, expiresAt: null }, line), true);
    deepStrictEqual(await keys.get('default', 'a'), aKey('a'));
    for (const [tenant, name] of nobody) strictEqual(await keys.change(tenant, name, { expiresAt: 1 }, line), false);
    deepStrictEqual(await keys.get('other', 'a'), aKey('a', { tenant: 'other' }));
  },

  'a key is revoked once, and is not changed after that': async ({ keys }) => {
    await keys.create(aKey('a'), 'hash', line);
    await keys.create(aKey('a', { tenant: 'other' }), 'another', line);
    const tries = await Promise.all([50, 51, 52].map((at) => keys.revoke('default', 'a', at, line)));
    deepStrictEqual(tries, [true, false, false]);
    strictEqual(await keys.change('default', 'a', { narrowing, expiresAt: null }, line), false);
    deepStrictEqual(await keys.get('default', 'a'), aKey('a', { revokedAt: 50 }));
    for (const [tenant, name] of nobody) strictEqual(await keys.revoke(tenant, name, 40, line), false);
    deepStrictEqual(await keys.get('other', 'a'), aKey('a', { tenant: 'other' }));
  },

  'what changed since a time is found in all tenants, whenever it takes effect': async ({ keys }) => {
    const before = systemClock.now();
    for (const name of ['made', 'changed', 'rotated', 'revoked']) await keys.create(aKey(name), name, line);
    await keys.create(aKey('made', { tenant: 'other' }), 'other', line);
    deepStrictEqual(await keys.changedSince(before), []);
    await keys.change('default', 'changed', { expiresAt: before + 1e9 }, line);
    await keys.change('other', 'made', { narrowing }, line);
    await keys.rotate('default', 'rotated', 'anew', 1, line);
    await keys.revoke('default', 'revoked', 2, line);
    await keys.revoke('default', 'revoked', 3, line);
    const after = systemClock.now();
    const changed = await keys.changedSince(before);
    deepStrictEqual(changed.map(({ tenant, name }) => `${tenant} ${name}`).toSorted(), [
      'default changed',
      'default revoked',
      'default rotated',
      'other made',
    ]);
    deepStrictEqual(Object.keys(changed[0] ?? {}).toSorted(), ['name', 'tenant']);
    deepStrictEqual(await keys.changedSince(after + 1), []);
  },

  'a change has its line in the audit log, and what changes nothing has none': async ({ keys, audit }) => {
    await keys.create(aKey('a'), 'hash', anEntry('create'));
    await rejects(keys.create(aKey('a'), 'another', anEntry('no')), KeyTakenError);
    await rejects(keys.create(aKey('b'), 'hash', anEntry('no')), KeyTakenError);
    strictEqual(await keys.change('default', 'a', { expiresAt: 1 }, anEntry('change')), true);
    strictEqual(await keys.rotate('default', 'a', 'anew', 1, anEntry('rotate')), true);
    await rejects(keys.rotate('default', 'a', 'hash', 1, anEntry('no')), KeyTakenError);
    strictEqual(await keys.revoke('default', 'a', 2, anEntry('revoke')), true);
    strictEqual(await keys.revoke('default', 'a', 3, anEntry('no')), false);
    strictEqual(await keys.change('default', 'a', { expiresAt: 4 }, anEntry('no')), false);
    strictEqual(await keys.rotate('default', 'a', 'again', 1, anEntry('no')), false);
    deepStrictEqual(await auditSubjects(audit), ['create', 'change', 'rotate', 'revoke']);
  },

  'nothing changes when its line cannot be stored': async ({ keys, audit }) => {
    await rejects(keys.create(aKey('a'), 'hash', unfitEntry));
    strictEqual(await keys.byHash('hash'), null);
    await keys.create(aKey('a'), 'hash', line);
    await rejects(keys.change('default', 'a', { expiresAt: 1 }, unfitEntry));
    await rejects(keys.rotate('default', 'a', 'anew', 1, unfitEntry));
    await rejects(keys.revoke('default', 'a', 1, unfitEntry));
    deepStrictEqual(await keys.byHash('hash'), { key: aKey('a'), until: null });
    strictEqual(await keys.byHash('anew'), null);
    deepStrictEqual(await keys.changedSince(0), []);
    deepStrictEqual(await auditSubjects(audit), ['line']);
  },
};
