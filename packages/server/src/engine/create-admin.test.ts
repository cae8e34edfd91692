import assert from 'node:assert/strict';
import { test } from 'node:test';
import { adminBench, master, type AdminBench } from './admin-support.ts';
import { chainStart, verifyChain } from './audit-chain.ts';
import { auditReads } from './audit-reads.ts';
import { isoTime } from './clock.ts';
import type { AuditEntry, AuditStore, ModelCall } from './ports.ts';
import type { Principal } from './principal.ts';

const budgets = { run: null, conversation: null, day: 5, month: 100 };
const operator: Principal = { ...master, tenant: 'acme', key: 'op', role: 'operator' };

test('a tenant is made once, and its budgets are set', async (t) => {
  const { admin, lines, now } = await adminBench(t);
  const made = await admin.createTenant(master, 'acme', null);
  assert.deepEqual(made, { id: 'acme', created_at: isoTime(now), budgets: null });
  for (const id of ['acme', 'default']) {
    await assert.rejects(admin.createTenant(master, id, null), { code: 'tenant_exists' });
  }
  assert.deepEqual(await admin.setTenantBudgets(master, 'acme', budgets), { ...made, budgets });
  assert.deepEqual(
    (await admin.tenants()).map(({ id }) => id),
    ['acme', 'default'],
  );
  assert.deepEqual(await admin.setTenantBudgets(master, 'acme', null), made);
  await assert.rejects(admin.setTenantBudgets(master, 'nobody', null), { code: 'tenant_not_found' });
  const by = { actor_tenant: 'default' };
  assert.deepEqual(
    (await lines()).map(({ action, tenant, details }) => [action, tenant, details]),
    [
      ['tenant.create', 'acme', by],
      ['tenant.budgets', 'acme', { day: 5, month: 100, ...by }],
      ['tenant.budgets', 'acme', by],
    ],
  );
});

test('a stop holds here when it is made, and is lifted once', async (t) => {
  const bench = await adminBench(t);
  const { admin, lines, refreshed, now } = bench;
  const wanted = { tenant: 'acme', key: 'ci', conversation: null, reason: 'too loud' };
  const stop = await admin.stop(master, wanted);
  assert.equal(refreshed(), 1);
  assert.deepEqual(stop, {
    stop_id: stop.stop_id,
    scope: 'key',
    ...wanted,
    created_at: isoTime(now),
    created_by: 'master',
  });
  bench.now += 1;
  const all = await admin.stop(master, { tenant: null, key: null, conversation: null, reason: '' });
  assert.deepEqual(await admin.stops(), [stop, all]);
  assert.deepEqual(await admin.liftStop(master, stop.stop_id), stop);
  assert.deepEqual([refreshed(), await admin.stops()], [3, [all]]);
  await assert.rejects(admin.liftStop(master, stop.stop_id), { code: 'stop_not_found' });
  const details = { scope: 'key', key: 'ci', conversation: null, reason: 'too loud', actor_tenant: 'default' };
  assert.deepEqual(
    (await lines()).map((line) => [line.action, line.tenant, line.subject, line.details]),
    [
      ['stop.add', 'acme', stop.stop_id, details],
      ['stop.add', 'default', all.stop_id, { scope: 'all', key: null, conversation: null, reason: '' }],
      ['stop.lift', 'acme', stop.stop_id, details],
    ],
  );
});

let calls = 0;
const call = (tenant: string, key: string, at: string, costUsd: number | null): ModelCall => ({
  id: `call-${(calls += 1)}`,
  ref: { tenant, conversation: 'c', turn: 't', epoch: 1 },
  key,
  at: Date.parse(at),
  model: 'large',
  usage: { input_tokens: 1, output_tokens: 2, cache_read_tokens: 3, cache_write_tokens: 4 },
  costUsd,
  status: 200,
  durationMs: 5,
});

async function spent({ stores }: AdminBench): Promise<void> {
  for (const made of [
    call('acme', 'op', '2026-11-21T11:00:00Z', 2),
    call('acme', 'op', '2026-11-21T00:00:00Z', null),
    call('acme', 'op', '2026-11-20T23:59:59Z', 4),
    call('acme', 'op', '2026-10-23T00:00:00Z', 8),
    call('acme', 'op', '2026-10-22T23:59:59Z', 16),
    call('acme', 'ci', '2026-11-21T11:00:00Z', 32),
    call('default', 'op', '2026-11-21T11:00:00Z', 64),
  ]) {
    await stores.usage.record(made);
  }
}
const anyTime = { from: undefined, to: undefined };

test('a key reads what it used in the last 30 days, and how the budgets stand that bind it', async (t) => {
  const bench = await adminBench(t);
  const { admin } = bench;
  await spent(bench);
  await admin.createTenant(master, 'acme', { ...budgets, month: null });
  const narrowing = { permissionModes: null, tools: null, models: null, workspaceRoots: null, rates: null, budgets };
  const report = await admin.ownUsage({ ...operator, narrowing }, anyTime);
  assert.deepEqual([report.from, report.to, report.total_cost_usd], ['2026-10-23', '2026-11-21', 14]);
  assert.deepEqual(report.items[0], {
    tenant: 'acme',
    key: 'op',
    day: '2026-11-21',
    model: 'large',
    calls: 2,
    input_tokens: 2,
    output_tokens: 4,
    cache_read_tokens: 6,
    cache_write_tokens: 8,
    cost_usd: 2,
    unpriced_calls: 1,
  });
  const standing = (of: string, period: string, limit_usd: number, spent_usd: number) => ({
    of,
    period,
    limit_usd,
    spent_usd,
    reserved_usd: 0,
  });
  assert.deepEqual(report.budgets, [
    standing('key', 'day', 5, 2),
    standing('key', 'month', 100, 6),
    standing('tenant', 'day', 5, 34),
  ]);
  assert.deepEqual((await admin.ownUsage(operator, anyTime)).budgets.length, 1);
});

test('an admin reads the usage of all, others that of their tenant only', async (t) => {
  const bench = await adminBench(t);
  const { admin } = bench;
  await spent(bench);
  const total = async (principal: Principal, tenant?: string, key?: string) =>
    (await admin.allUsage(principal, { from: '2026-11-21', to: '2026-11-21', tenant, key })).total_cost_usd;
  assert.equal(await total(master), 98);
  assert.equal(await total(master, 'acme'), 34);
  assert.equal(await total(master, undefined, 'op'), 66);
  assert.equal(await total(operator), 34);
  assert.equal(await total(operator, 'acme', 'ci'), 32);
  assert.equal(await total(operator, undefined, 'op'), 2);
  await assert.rejects(total(operator, 'default'), { code: 'forbidden' });
});

test('days must be in order and at most 366', async (t) => {
  const { admin } = await adminBench(t);
  const days = async (from: string | undefined, to: string | undefined) => {
    const report = await admin.ownUsage(operator, { from, to });
    return [report.from, report.to];
  };
  assert.deepEqual(await days(undefined, '2024-03-01'), ['2024-02-01', '2024-03-01']);
  assert.deepEqual(await days('2026-11-21', undefined), ['2026-11-21', '2026-11-21']);
  assert.deepEqual(await days('2024-01-01', '2024-12-31'), ['2024-01-01', '2024-12-31']);
  for (const [from, to] of [
    ['2026-11-22', undefined],
    ['2026-01-02', '2026-01-01'],
    ['2023-12-31', '2024-12-31'],
  ] as const) {
    await assert.rejects(days(from, to), (error: { code: string; issues: { loc: unknown }[] }) => {
      assert.deepEqual([error.code, error.issues[0]?.loc], ['validation_failed', ['query', 'from']]);
      return true;
    });
  }
});

const entry = (tenant: string, number: number): AuditEntry => ({
  at: number,
  tenant,
  actor: 'a',
  action: 'test',
  ref: null,
  subject: String(number),
  details: {},
});

test('an export ends with the last line that was there when it began', async (t) => {
  const { admin, stores } = await adminBench(t);
  const entries = Array.from({ length: 1203 }, (_, index) => entry(index % 3 === 0 ? 'acme' : 'other', 5000 - index));
  const seqs = async (principal: Principal, after: number, during?: () => Promise<void>) => {
    const found: number[] = [];
    for await (const page of admin.exportAudit(principal, after)) {
      found.push(...page.map(({ seq }) => seq));
      await during?.();
    }
    return found;
  };
  assert.deepEqual(await seqs(master, 0), []);
  await stores.audit.append(entries);
  const more = () => stores.audit.append([entry('acme', 1), entry('other', 9999)]);
  const all = entries.map((_, index) => index + 1);
  assert.deepEqual(await seqs(master, 0, more), all);
  assert.deepEqual(await seqs(master, 1203), [1204, 1205, 1206, 1207, 1208, 1209]);
  assert.deepEqual(await seqs(master, 10 ** 15), []);
  const own = (await stores.audit.read('acme', 7, 9999)).map(({ seq }) => seq);
  assert.deepEqual(await seqs(operator, 7, more), own);
});

test('an export is whole for every number of lines', async () => {
  const read =
    (rows: number): AuditStore['read'] =>
    async (_tenant, after, limit) =>
      Array.from({ length: Math.max(0, Math.min(limit, rows - after)) }, (_, index) => ({
        ...entry('acme', 1),
        seq: after + 1 + index,
        hash: '',
      }));
  for (let rows = 0; rows < 70; rows += 1) {
    for (const after of [0, 1, 5, 69]) {
      const audit = { append: async () => undefined, read: read(rows), last: async () => rows };
      const { exportAudit } = auditReads({ audit });
      const lines = (await Array.fromAsync(exportAudit(master, after))).flat();
      assert.equal(lines.length, Math.max(0, rows - after), `${rows} after ${after}`);
    }
  }
});

test('what is changed is in the audit log, which an admin reads whole and others as far as their tenant', async (t) => {
  const { admin } = await adminBench(t);
  await admin.createTenant(master, 'acme', null);
  await admin.createTenant(master, 'other', null);
  const { items, next_cursor } = await admin.audit(master, { after: 0, limit: 10 });
  assert.deepEqual([verifyChain(items, chainStart), items.length, next_cursor], [null, 2, null]);
  assert.equal((await admin.audit(master, { after: 0, limit: 1 })).next_cursor, '1');
  assert.deepEqual((await admin.audit(operator, { after: 0, limit: 10 })).items, [items[0]]);
});
