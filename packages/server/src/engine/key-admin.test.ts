import assert from 'node:assert/strict';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { adminBench, master, type AdminBench } from './admin-support.ts';
import { isoTime } from './clock.ts';
import { secretHash } from './keys.ts';
import { unnarrowed } from './narrowing.ts';
import type { Narrowing } from './ports.ts';
import type { Principal } from './principal.ts';

const wanted = { name: 'ci', role: 'user', narrowing: null, expiresIn: null } as const;
const narrowed = (part: Partial<Narrowing>): Narrowing => ({ ...unnarrowed, ...part });
/** A stored admin with a narrowing. */
async function adminWith(
  { admin, now }: AdminBench,
  part: Partial<Narrowing>,
  seconds: number | null = null,
): Promise<Principal> {
  const key = 'part-admin';
  const narrowing = narrowed(part);
  await admin.createKey(master, 'default', { name: key, role: 'admin', narrowing, expiresIn: seconds });
  return { ...master, key, narrowing, expiresAt: seconds === null ? null : now + seconds * 1000 };
}
const openBudgets = { run: null, conversation: null, day: null, month: null };

test('the secret of a key is given once, and only its hash is kept', async (t) => {
  const { admin, stores, lines, now } = await adminBench(t);
  const { secret, ...made } = await admin.createKey(master, 'default', wanted);
  assert.match(secret, /^sallyport_[\w-]{43}$/u);
  assert.deepEqual(made, {
    tenant: 'default',
    name: 'ci',
    role: 'user',
    narrowing: null,
    created_at: isoTime(now),
    created_by: 'master',
    expires_at: null,
    revoked_at: null,
    previous_until: null,
  });
  assert.equal((await stores.keys.byHash(secretHash(secret)))?.key.name, 'ci');
  const other = await admin.createKey(master, 'default', { ...wanted, name: undefined });
  assert.notEqual(other.secret, secret);
  assert.match(other.name, /^key-[\da-f]{32}$/u);
  const told = JSON.stringify([await admin.keys('default'), await lines()]);
  assert.ok(told.includes(other.name) && !told.includes(secret) && !told.includes(secretHash(secret)));
});

test('the keys of a tenant are those that are stored and those that are configured', async (t) => {
  const bench = await adminBench(t);
  const { admin } = bench;
  await admin.createTenant(master, 'acme', null);
  await admin.createKey(master, 'default', { ...wanted, name: 'old' });
  bench.now += 1000;
  await admin.createKey(master, 'default', wanted);
  await admin.createKey(master, 'acme', { ...wanted, name: 'special' });
  const names = async (tenant: string) => (await admin.keys(tenant)).map(({ name }) => name);
  assert.deepEqual(await names('default'), ['ci', 'old', 'master', 'special']);
  assert.deepEqual(await names('acme'), ['special']);
  const [, , configured] = await admin.keys('default');
  assert.deepEqual([configured?.created_at, configured?.role], [null, 'admin']);
  await assert.rejects(names('nobody'), { code: 'tenant_not_found' });
});

test('a name is used once, also after its key is revoked, and never one that stands for another', async (t) => {
  const { admin } = await adminBench(t);
  const make = (name: string, tenant = 'default') => admin.createKey(master, tenant, { ...wanted, name });
  await make('ci');
  await admin.revokeKey(master, 'default', 'ci');
  for (const name of ['ci', 'special', 'master', 'Master', 'admin', 'key-1', 'key-5', 'service', 'anonymous']) {
    await assert.rejects(make(name), { code: 'key_exists' }, name);
  }
  await assert.rejects(make('x', 'nobody'), { code: 'tenant_not_found' });
  await admin.createTenant(master, 'acme', null);
  await make('ci', 'acme');
  await assert.rejects(make('service', 'acme'), { code: 'key_exists' });
  await assert.rejects(admin.createKey(master, 'acme', { ...wanted, name: 'boss', role: 'admin' }), {
    code: 'validation_failed',
    issues: [{ loc: ['body', 'role'], msg: 'admins belong to the tenant "default"', type: 'value_error' }],
  });
});

test('workspace roots are kept as real paths, and each must be a directory', async (t) => {
  const bench = await adminBench(t);
  const { admin, root } = bench;
  await mkdir(join(root, 'real'));
  await mkdir(join(root, 'other'));
  await writeFile(join(root, 'file'), '');
  await symlink(join(root, 'real'), join(root, 'link'));
  await symlink(join(root, 'other'), join(root, 'real/out'));
  const make = (name: string, principal: Principal, ...paths: string[]) =>
    admin.createKey(principal, 'default', {
      ...wanted,
      name,
      narrowing: narrowed({ workspaceRoots: paths.map((path) => join(root, path)) }),
    });
  const { narrowing } = await make('a', master, 'link', 'real/../other');
  assert.deepEqual(narrowing?.workspace_roots, [join(root, 'real'), join(root, 'other')]);
  for (const path of ['file', 'missing', 'file/below', 'nul\0']) {
    await assert.rejects(make('b', master, 'real', path), {
      code: 'validation_failed',
      issues: [
        {
          loc: ['body', 'narrowing', 'workspace_roots', 1],
          msg: 'is no directory of the server',
          type: 'value_error',
        },
      ],
    });
  }
  const giver = await adminWith(bench, { workspaceRoots: [join(root, 'real')] });
  await make('c', giver, 'link');
  const refusals = await Promise.all(
    ['other', 'real/out', 'missing', 'file'].map((path) =>
      make('d', giver, path).catch(({ code, detail }: { code: string; detail: string }) => [code, detail]),
    ),
  );
  assert.deepEqual(new Set(refusals.map((refusal) => JSON.stringify(refusal))).size, 1, 'it learns nothing of others');
  assert.match(JSON.stringify(refusals[0]), /beyond_own_rights.*narrowing\.workspace_roots/u);
});

test('a key is given no more than its giver has, and what is left open is the giver’s', async (t) => {
  const bench = await adminBench(t);
  const { admin, now } = bench;
  const giver = await adminWith(bench, { tools: ['Read'], budgets: { ...openBudgets, day: 5 } }, 60);
  const make = (name: string, part: Partial<Narrowing> | null, expiresIn: number | null = null) =>
    admin.createKey(giver, 'default', { name, role: 'user', narrowing: part && narrowed(part), expiresIn });
  const open = await make('open', null);
  assert.deepEqual([open.narrowing?.tools, open.narrowing?.budgets?.day], [['Read'], 5]);
  assert.equal(open.expires_at, isoTime(now + 60_000));
  assert.equal((await make('sooner', { tools: [] }, 59)).expires_at, isoTime(now + 59_000));
  const cases: [string, Partial<Narrowing>, number | null][] = [
    ['narrowing.tools', { tools: ['Read', 'Bash'] }, null],
    ['narrowing.budgets', { budgets: { ...openBudgets, day: 6 } }, null],
    ['expires_in', {}, 61],
  ];
  for (const [part, narrowing, expiresIn] of cases) {
    await assert.rejects(make('more', narrowing, expiresIn), (error: { code: string; detail: string }) => {
      assert.deepEqual([error.code, error.detail.includes(part)], ['beyond_own_rights', true], error.detail);
      return true;
    });
  }
  assert.deepEqual(
    (await admin.keys('default')).map(({ name }) => name),
    ['sooner', 'part-admin', 'open', 'master', 'special'],
  );
});

test('a key is changed only by whom it is no more than, before and after', async (t) => {
  const bench = await adminBench(t);
  const { admin, now } = bench;
  await admin.createKey(master, 'default', { ...wanted, name: 'wide', role: 'admin' });
  await admin.createKey(master, 'default', { ...wanted, narrowing: narrowed({ tools: ['Read', 'Bash'] }) });
  const giver = await adminWith(bench, { tools: ['Read', 'Bash', 'Edit'] });
  const change = (name: string, narrowing: Narrowing | null | undefined, expiresIn?: number) =>
    admin.changeKey(giver, 'default', name, { narrowing, expiresIn });
  assert.deepEqual((await change('ci', narrowed({ models: ['small'] }))).narrowing?.tools, ['Read', 'Bash', 'Edit']);
  assert.deepEqual((await change('ci', null)).narrowing?.models, null);
  const sooner = await change('ci', undefined, 60);
  assert.deepEqual([sooner.expires_at, sooner.narrowing?.tools?.length], [isoTime(now + 60_000), 3]);
  assert.deepEqual(
    (await admin.keys('default')).find(({ name }) => name === 'ci'),
    sooner,
  );
  const refused = { code: 'beyond_own_rights' };
  await assert.rejects(change('ci', narrowed({ tools: ['Write'] })), refused);
  await assert.rejects(change('wide', narrowed({ tools: ['Read'] })), refused, 'a narrower one is no excuse');
  await assert.rejects(admin.rotateKey(giver, 'default', 'wide', 0), refused, 'its secret would be a wider key');
  await assert.rejects(change('master', null), { code: 'key_not_found' });
  await admin.revokeKey(giver, 'default', 'wide');
});

test('the secret before the last rotation cannot be used to rotate or lengthen its own key', async (t) => {
  const { admin, now } = await adminBench(t);
  await admin.createKey(master, 'default', { ...wanted, name: 'boss', role: 'admin' });
  const late: Principal = { ...master, key: 'boss', expiresAt: now + 3_600_000 };
  const refused = { code: 'beyond_own_rights' };
  await assert.rejects(admin.rotateKey(late, 'default', 'boss', 60), refused);
  await assert.rejects(admin.changeKey(late, 'default', 'boss', { narrowing: undefined, expiresIn: 7200 }), refused);
});

test('whoever may less than when it was let in gives no more than it may now', async (t) => {
  const bench = await adminBench(t);
  const { admin } = bench;
  const giver = await adminWith(bench, {});
  await admin.createKey(master, 'default', wanted);
  const change = { narrowing: narrowed({ tools: [] }), expiresIn: undefined };
  await admin.changeKey(master, 'default', giver.key, change);
  const made = await admin.createKey(giver, 'default', { ...wanted, name: 'less' });
  assert.deepEqual(made.narrowing?.tools, []);
  await assert.rejects(admin.rotateKey(giver, 'default', 'ci', 0), { code: 'beyond_own_rights' });
  await admin.revokeKey(master, 'default', giver.key);
  const gone = { code: 'invalid_key' };
  await assert.rejects(admin.createKey(giver, 'default', { ...wanted, name: 'late' }), gone);
  await assert.rejects(admin.changeKey(giver, 'default', 'less', change), gone);
  await assert.rejects(admin.rotateKey(giver, 'default', 'less', 0), gone);
});

test('a rotation leaves the old secret for a while, and a revoked key is left as it is', async (t) => {
  const bench = await adminBench(t);
  const { admin, stores, now } = bench;
  const first = await admin.createKey(master, 'default', wanted);
  const { secret, ...rotated } = await admin.rotateKey(master, 'default', 'ci', 60);
  assert.notEqual(secret, first.secret);
  assert.equal(rotated.previous_until, isoTime(now + 60_000));
  assert.equal((await stores.keys.byHash(secretHash(first.secret)))?.until, now + 60_000);
  assert.equal((await stores.keys.byHash(secretHash(secret)))?.until, null);
  bench.now += 5;
  assert.equal((await admin.revokeKey(master, 'default', 'ci')).revoked_at, isoTime(now + 5));
  const unknown = { code: 'key_not_found' };
  for (const name of ['ci', 'nobody', 'special']) {
    await assert.rejects(admin.revokeKey(master, 'default', name), unknown);
    await assert.rejects(admin.rotateKey(master, 'default', name, 0), unknown);
    await assert.rejects(admin.changeKey(master, 'default', name, { narrowing: null, expiresIn: undefined }), unknown);
  }
});

test('what was changed is told in the audit log of the tenant, with whoever did it', async (t) => {
  const { admin, lines, now } = await adminBench(t);
  await admin.createTenant(master, 'acme', null);
  const narrowing = narrowed({ tools: [], rates: { perHour: 9 }, budgets: { ...openBudgets, day: 5 } });
  await admin.createKey(master, 'acme', { ...wanted, narrowing, expiresIn: 60 });
  await admin.changeKey(master, 'acme', 'ci', { narrowing: null, expiresIn: undefined });
  await admin.changeKey(master, 'acme', 'ci', { narrowing: undefined, expiresIn: 90 });
  await admin.rotateKey(master, 'acme', 'ci', 10);
  await admin.revokeKey(master, 'acme', 'ci');
  await assert.rejects(admin.revokeKey(master, 'acme', 'ci'));
  const [, ...told] = await lines();
  const by = { actor_tenant: 'default' };
  const parts = { tools: '[]', 'rates.requests_per_hour': 9, 'budgets.day': 5 };
  assert.deepEqual(
    told.map(({ action, details }) => [action, details]),
    [
      ['key.create', { role: 'user', narrowed: true, ...parts, expires_at: isoTime(now + 60_000), ...by }],
      ['key.change', { narrowed: false, ...by }],
      ['key.change', { expires_at: isoTime(now + 90_000), ...by }],
      ['key.rotate', { previous_until: isoTime(now + 10_000), ...by }],
      ['key.revoke', by],
    ],
  );
  assert.ok(told.every((line) => line.tenant === 'acme' && line.actor === 'master' && line.subject === 'ci'));
});

test('of two that change a key at once the second judges what the first left', async (t) => {
  const bench = await adminBench(t);
  const { admin } = bench;
  await admin.createKey(master, 'default', { ...wanted, narrowing: narrowed({ tools: [] }) });
  const giver = await adminWith(bench, { tools: [] });
  const [widened, rotated] = await Promise.allSettled([
    admin.changeKey(master, 'default', 'ci', { narrowing: null, expiresIn: undefined }),
    admin.rotateKey(giver, 'default', 'ci', 0),
  ]);
  assert.equal(widened.status, 'fulfilled');
  assert.ok(rotated.status === 'rejected' && rotated.reason.code === 'beyond_own_rights');
});
