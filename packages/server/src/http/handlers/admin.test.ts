import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultBounds, operations, type Operation, type OperationId } from '@sallyport/protocol';
import type { InjectOptions } from 'fastify';
import { SallyportError } from '../../engine/errors.ts';
import { unnarrowed } from '../../engine/narrowing.ts';
import { bearer, principalOf, testApp, type TestAdmin } from '../testing.ts';

const table: Readonly<Record<OperationId, Operation>> = operations(defaultBounds);
const master = principalOf('admin');

const openShape = {
  permission_modes: null,
  tools: null,
  models: null,
  workspace_roots: null,
  rates: null,
  budgets: null,
};
const budgets = { run: 1, conversation: null, day: 0, month: null };
const tenant = { id: 'acme', created_at: '2030-01-01T00:00:00.000Z', budgets: null };
const key = {
  tenant: 'acme',
  name: 'ci',
  role: 'user' as const,
  narrowing: { ...openShape, budgets },
  created_at: '2030-01-01T00:00:00.000Z',
  created_by: 'admin',
  expires_at: null,
  revoked_at: null,
  previous_until: null,
};
const stop = {
  stop_id: 'stop-1',
  scope: 'tenant' as const,
  tenant: 'acme',
  key: null,
  conversation: null,
  reason: '',
  created_at: '2030-01-01T00:00:00.000Z',
  created_by: 'admin',
};
const report = { from: '2030-01-01', to: '2030-01-02', items: [], total_cost_usd: 0 };
const withSecret = { ...key, secret: 'sallyport_x' };

/** A request of an operation, what the administration is asked then, and what it says to that. */
interface Case {
  readonly id: OperationId;
  readonly request: InjectOptions;
  readonly asked: readonly [keyof TestAdmin, ...unknown[]];
  readonly says: unknown;
  /** The answer, where it is not what the administration says. */
  readonly answer?: unknown;
}

const base = '/api/admin';
const post = (url: string, payload: object): InjectOptions => ({ method: 'POST', url: `${base}${url}`, payload });
const patch = (url: string, payload: object): InjectOptions => ({ method: 'PATCH', url: `${base}${url}`, payload });
const list = (...items: unknown[]) => ({ items, next_cursor: null });
const keyOf = (name: string | undefined, narrowing: object | null, expiresIn: number | null) => ({
  name,
  role: 'user',
  narrowing,
  expiresIn,
});
const allStopped = { tenant: null, key: null, conversation: null, reason: '' };

const cases: readonly Case[] = [
  { id: 'listTenants', request: { url: `${base}/tenants` }, asked: ['tenants'], says: [tenant], answer: list(tenant) },
  {
    id: 'createTenant',
    request: post('/tenants', { id: 'acme' }),
    asked: ['createTenant', master, 'acme', null],
    says: tenant,
  },
  {
    id: 'createTenant',
    request: post('/tenants', { id: 'acme', budgets: { run: 1, day: 0 } }),
    asked: ['createTenant', master, 'acme', budgets],
    says: { ...tenant, budgets },
  },
  {
    id: 'changeTenant',
    request: patch('/tenants/acme', { budgets: null }),
    asked: ['setTenantBudgets', master, 'acme', null],
    says: tenant,
  },
  {
    id: 'listKeys',
    request: { url: `${base}/tenants/acme/keys` },
    asked: ['keys', 'acme'],
    says: [key],
    answer: list(key),
  },
  {
    id: 'createKey',
    request: post('/tenants/acme/keys', { role: 'user' }),
    asked: ['createKey', master, 'acme', keyOf(undefined, null, null)],
    says: withSecret,
  },
  {
    id: 'createKey',
    request: post('/tenants/acme/keys', { name: 'ci', role: 'user', narrowing: null, expires_in: null }),
    asked: ['createKey', master, 'acme', keyOf('ci', null, null)],
    says: withSecret,
  },
  {
    id: 'createKey',
    request: post('/tenants/acme/keys', {
      name: 'ci',
      role: 'user',
      narrowing: {
        permission_modes: ['readOnly'],
        tools: [],
        models: ['m'],
        workspace_roots: ['/a'],
        rates: { requests_per_minute: 1, burst_size: 0 },
        budgets: { run: 1, day: 0 },
      },
      expires_in: 60,
    }),
    asked: [
      'createKey',
      master,
      'acme',
      keyOf(
        'ci',
        {
          permissionModes: ['readOnly'],
          tools: [],
          models: ['m'],
          workspaceRoots: ['/a'],
          rates: { perMinute: 1, burst: 0 },
          budgets,
        },
        60,
      ),
    ],
    says: withSecret,
  },
  {
    id: 'changeKey',
    request: patch('/tenants/acme/keys/ci', {}),
    asked: ['changeKey', master, 'acme', 'ci', { narrowing: undefined, expiresIn: undefined }],
    says: key,
  },
  {
    id: 'changeKey',
    request: patch('/tenants/acme/keys/ci', { narrowing: null, expires_in: null }),
    asked: ['changeKey', master, 'acme', 'ci', { narrowing: null, expiresIn: undefined }],
    says: key,
  },
  {
    id: 'changeKey',
    request: patch('/tenants/acme/keys/ci', { narrowing: {}, expires_in: 5 }),
    asked: ['changeKey', master, 'acme', 'ci', { narrowing: unnarrowed, expiresIn: 5 }],
    says: key,
  },
  {
    id: 'rotateKey',
    request: post('/tenants/acme/keys/ci/rotate', {}),
    asked: ['rotateKey', master, 'acme', 'ci', 3600],
    says: withSecret,
  },
  {
    id: 'revokeKey',
    request: { method: 'DELETE', url: `${base}/tenants/acme/keys/ci` },
    asked: ['revokeKey', master, 'acme', 'ci'],
    says: key,
  },
  { id: 'listStops', request: { url: `${base}/stops` }, asked: ['stops'], says: [stop], answer: list(stop) },
  { id: 'stop', request: post('/stops', { scope: 'all' }), asked: ['stop', master, allStopped], says: stop },
  {
    id: 'stop',
    request: post('/stops', { scope: 'conversation', tenant: 'acme', conversation: 'c', reason: 'why' }),
    asked: ['stop', master, { tenant: 'acme', key: null, conversation: 'c', reason: 'why' }],
    says: stop,
  },
  {
    id: 'liftStop',
    request: { method: 'DELETE', url: `${base}/stops/stop-1` },
    asked: ['liftStop', master, 'stop-1'],
    says: stop,
  },
  {
    id: 'usage',
    request: { url: '/api/claude/usage' },
    asked: ['ownUsage', master, { from: undefined, to: undefined }],
    says: { ...report, budgets: [] },
    answer: { ...report, budgets: [], next_cursor: null },
  },
  {
    id: 'allUsage',
    request: { url: `${base}/usage?from=2030-01-01&to=2030-01-02&tenant=acme&key=ci` },
    asked: ['allUsage', master, { from: '2030-01-01', to: '2030-01-02', tenant: 'acme', key: 'ci' }],
    says: report,
    answer: { ...report, next_cursor: null },
  },
  {
    id: 'readAudit',
    request: { url: `${base}/audit?after=3` },
    asked: ['audit', master, { after: 3, limit: 200 }],
    says: list(),
  },
];

for (const { id, request, asked, says, answer = says } of cases) {
  const { method = 'GET', url, payload = '' } = request;
  test(`${method} ${url as string} ${JSON.stringify(payload)} asks what is meant, and answers as it is declared`, async () => {
    const { app, admin } = await testApp();
    const [name, ...expected] = asked;
    const calls: unknown[][] = [];
    Object.assign(admin, {
      [name]: async (...given: unknown[]) => {
        calls.push(given);
        return says;
      },
    });
    const response = await app.inject({ ...request, headers: bearer('admin') });
    assert.equal(response.statusCode, table[id].response.status, response.body);
    assert.deepEqual(calls, [expected]);
    const body: unknown = response.json();
    assert.deepEqual(body, answer);
    assert.deepEqual(table[id].response.schema.parse(body), body);
    await app.close();
  });
}

test('what is out of bounds is refused before the administration is asked', async () => {
  const { app } = await testApp();
  const wrong: [InjectOptions, ...string[]][] = [
    [post('/tenants', { id: '../x' }), 'id'],
    [post('/tenants/acme/keys', { role: 'root' }), 'role'],
    [post('/tenants/acme/keys', { role: 'user', name: 'a b' }), 'name'],
    [post('/tenants/acme/keys', { role: 'user', tenant: 'other' }), 'tenant'],
    [post('/tenants/acme/keys', { role: 'user', narrowing: { tools: ['Task'] } }), 'narrowing.tools.0'],
    [
      post('/tenants/acme/keys', { role: 'user', narrowing: { workspace_roots: ['a'] } }),
      'narrowing.workspace_roots.0',
    ],
    [post('/tenants/acme/keys', { role: 'user', narrowing: { budgets: { day: -1 } } }), 'narrowing.budgets.day'],
    [post('/tenants/acme/keys', { role: 'user', expires_in: 0 }), 'expires_in'],
    [post('/tenants/acme/keys/ci/rotate', { overlap: -1 }), 'overlap'],
    [patch('/tenants/acme', {}), 'budgets'],
    [post('/stops', { scope: 'all', tenant: 'acme' }), 'tenant'],
    [post('/stops', { scope: 'key', tenant: 'acme' }), 'key'],
    [{ url: `${base}/usage?from=2030-02-30` }, 'from'],
  ];
  for (const [request, ...fields] of wrong) {
    const response = await app.inject({ ...request, headers: bearer('admin') });
    assert.equal(response.statusCode, 422, response.body);
    const { detail } = response.json<{ detail: { loc: (string | number)[] }[] }>();
    assert.deepEqual(
      detail.map(({ loc }) => loc.slice(1).join('.')),
      fields,
    );
  }
  await app.close();
});

test('a refusal of the administration is answered with its code and sentence', async () => {
  const { app, admin } = await testApp();
  admin.createKey = async () => {
    throw new SallyportError('beyond_own_rights', { detail: 'More: role.' });
  };
  const response = await app.inject({ ...post('/tenants/acme/keys', { role: 'user' }), headers: bearer('admin') });
  const { code, detail } = response.json<Record<string, unknown>>();
  assert.deepEqual([response.statusCode, code, detail], [403, 'beyond_own_rights', 'More: role.']);
  await app.close();
});
