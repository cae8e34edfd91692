import { deepStrictEqual, rejects, strictEqual } from 'node:assert/strict';
import type { AuditStore, TenantRecord, TenantStore } from '../engine/ports.ts';
import { anEntry, auditSubjects, unfitEntry } from './audit-entries.ts';
import { declare, type MakeStore, type Promises } from './contract.ts';

interface Stores {
  readonly tenants: TenantStore;
  readonly audit: AuditStore;
}

/** What every `TenantStore` promises. */
export function tenantStoreContract(makeStore: MakeStore<Stores>): void {
  declare('tenant store', promises, makeStore);
}

const theDefault: TenantRecord = { id: 'default', createdAt: 0, budgets: null };

const red: TenantRecord = {
  id: 'red',
  createdAt: 1_700_000_000_000,
  budgets: { run: 0.1, conversation: null, day: 0, month: null },
};

const line = anEntry('line');

const promises: Promises<Stores> = {
  'the tenant `default` is always there': async ({ tenants }) => {
    deepStrictEqual(await tenants.list(), [theDefault]);
    deepStrictEqual(await tenants.get('default'), theDefault);
    strictEqual(await tenants.create({ ...red, id: 'default' }, line), false);
    deepStrictEqual(await tenants.get('default'), theDefault);
  },

  'tenants come back as they were, by id': async ({ tenants }) => {
    const blue = { ...red, id: 'blue', createdAt: 5, budgets: null };
    strictEqual(await tenants.create(red, line), true);
    strictEqual(await tenants.create(blue, line), true);
    deepStrictEqual(await tenants.list(), [blue, theDefault, red]);
    deepStrictEqual(await tenants.get('red'), red);
    strictEqual(await tenants.get('nobody'), null);
  },

  'of twenty that make one tenant at once, one does': async ({ tenants, audit }) => {
    const tries = Array.from({ length: 20 }, (_, index) => ({ ...red, createdAt: index }));
    const made = await Promise.all(tries.map((tenant, index) => tenants.create(tenant, anEntry(String(index)))));
    strictEqual(made.filter(Boolean).length, 1);
    deepStrictEqual(await tenants.get('red'), tries[made.indexOf(true)]);
    deepStrictEqual(await auditSubjects(audit), [String(made.indexOf(true))]);
  },

  'budgets are set as a whole, and those of no other tenant': async ({ tenants }) => {
    await tenants.create(red, line);
    const budgets = { run: null, conversation: 1, day: 2, month: 30 };
    strictEqual(await tenants.setBudgets('red', budgets, line), true);
    deepStrictEqual(await tenants.get('red'), { ...red, budgets });
    deepStrictEqual(await tenants.get('default'), theDefault);
    strictEqual(await tenants.setBudgets('default', budgets, line), true);
    strictEqual(await tenants.setBudgets('red', null, line), true);
    deepStrictEqual(await tenants.list(), [
      { ...theDefault, budgets },
      { ...red, budgets: null },
    ]);
    strictEqual(await tenants.setBudgets('nobody', budgets, line), false);
    strictEqual(await tenants.get('nobody'), null);
  },

  'a change has its line in the audit log, and what changes nothing has none': async ({ tenants, audit }) => {
    await tenants.create(red, anEntry('create'));
    await tenants.create(red, anEntry('no'));
    await tenants.setBudgets('red', null, anEntry('budgets'));
    await tenants.setBudgets('nobody', null, anEntry('no'));
    deepStrictEqual(await auditSubjects(audit), ['create', 'budgets']);
  },

  'nothing changes when its line cannot be stored': async ({ tenants, audit }) => {
    await rejects(tenants.create(red, unfitEntry));
    strictEqual(await tenants.get('red'), null);
    await tenants.create(red, line);
    await rejects(tenants.setBudgets('red', null, unfitEntry));
    deepStrictEqual(await tenants.get('red'), red);
    deepStrictEqual(await auditSubjects(audit), ['line']);
  },
};
