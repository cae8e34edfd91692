import { deepStrictEqual, strictEqual } from 'node:assert/strict';
import type { TenantRecord, TenantStore } from '../engine/ports.ts';
import { declare, type MakeStore, type Promises } from './contract.ts';

/** What every `TenantStore` promises. */
export function tenantStoreContract(makeStore: MakeStore<TenantStore>): void {
  declare('tenant store', promises, makeStore);
}

const theDefault: TenantRecord = { id: 'default', createdAt: 0, disabledAt: null, budgets: null };

const red: TenantRecord = {
  id: 'red',
  createdAt: 1_700_000_000_000,
  disabledAt: null,
  budgets: { perRun: 0.1, perDay: 0, perMonth: null },
};

const promises: Promises<TenantStore> = {
  'the tenant `default` is always there': async (store) => {
    deepStrictEqual(await store.list(), [theDefault]);
    deepStrictEqual(await store.get('default'), theDefault);
    strictEqual(await store.create({ ...red, id: 'default' }), false);
    deepStrictEqual(await store.get('default'), theDefault);
  },

  'tenants come back as they were, by id': async (store) => {
    const blue = { ...red, id: 'blue', disabledAt: 5, budgets: null };
    strictEqual(await store.create(red), true);
    strictEqual(await store.create(blue), true);
    deepStrictEqual(await store.list(), [blue, theDefault, red]);
    deepStrictEqual(await store.get('red'), red);
    strictEqual(await store.get('nobody'), null);
  },

  'of twenty that make one tenant at once, one does': async (store) => {
    const tries = Array.from({ length: 20 }, (_, index) => ({ ...red, createdAt: index }));
    const made = await Promise.all(tries.map((tenant) => store.create(tenant)));
    strictEqual(made.filter(Boolean).length, 1);
    deepStrictEqual(await store.get('red'), tries[made.indexOf(true)]);
  },

  'a change sets what it names, and nothing of another tenant': async (store) => {
    await store.create(red);
    strictEqual(await store.update('red', { disabledAt: 9 }), true);
    deepStrictEqual(await store.get('red'), { ...red, disabledAt: 9 });
    const budgets = { perRun: null, perDay: 2, perMonth: 30 };
    strictEqual(await store.update('red', { budgets }), true);
    deepStrictEqual(await store.get('red'), { ...red, disabledAt: 9, budgets });
    strictEqual(await store.update('red', {}), true);
    strictEqual(await store.update('red', { disabledAt: null, budgets: null }), true);
    deepStrictEqual(await store.get('red'), { ...red, budgets: null });
    deepStrictEqual(await store.get('default'), theDefault);
    for (const change of [{}, { disabledAt: 1 }]) strictEqual(await store.update('nobody', change), false);
    strictEqual(await store.get('nobody'), null);
  },
};
