import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { admin, administer, auditLines, makeKey, makeTenant } from '../support/admin.ts';
import { call } from '../support/approvals.ts';
import { scripted } from '../support/runs.ts';
import { masterKey, query, runProgram, startService, userKey, type TestService } from '../support/service.ts';

let service: TestService;
before(async () => {
  service = await startService();
});
after(() => service.close());

const limit = { timeout: 240_000 };

/** How a command ended, and what it wrote. */
interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly error: string;
}

/** Runs `sallyport` beside the service, with its settings. */
async function sallyport(args: readonly string[], env: Record<string, string> = {}): Promise<Ended> {
  const settings = {
    SALLYPORT_PORT: new URL(service.url).port,
    SALLYPORT_DATA_DIR: service.dataDir,
    CLAUDE_API_MASTER_KEY: masterKey,
    ...env,
  };
  const { child } = runProgram(args, settings, service.root);
  const written = { out: '', error: '' };
  child.stdout.on('data', (chunk: Buffer) => (written.out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (written.error += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, ...written };
}

/** What a command wrote to standard output, which must have gone well. */
async function said(...args: string[]): Promise<string> {
  const { code, out, error } = await sallyport(args);
  assert.equal(code, 0, error);
  return out;
}

/** What `--json` gave. */
const told = async (...args: string[]): Promise<any> => JSON.parse(await said(...args, '--json'));

test(
  'a key is made, changed, rotated and revoked by commands, and only its secret is on standard output',
  limit,
  async () => {
    await mkdir(join(service.root, 'project'));
    const flags = '--mode readOnly --tool Read --root project --per-minute 50 --budget-day 2.5 --expires-in 1d'.split(
      ' ',
    );
    const made = await sallyport(['keys', 'create', '--name', 'ci', ...flags]);
    assert.equal(made.code, 0, made.error);
    assert.match(made.out, /^sallyport_[\w-]{43}\n$/u);
    const secret = made.out.trim();
    assert.ok(made.error.includes('ci') && !made.error.includes(secret), made.error);
    assert.equal((await call(service, 'GET', 'models', undefined, secret)).status, 200);

    const list = await said('keys', 'list');
    assert.match(list, /^ci +default +user +stored +\d{4}-.* permission_modes=readOnly tools=Read .* \$2\.5\/day$/mu);
    assert.match(list, /^key-1 +default +user +configured +never +service +-$/mu);
    const changed = await told('keys', 'change', 'ci', '--budget-day', 'any', '--tool', 'Glob');
    const { narrowing, expires_at } = changed;
    assert.deepEqual(narrowing, {
      permission_modes: ['readOnly'],
      tools: ['Glob'],
      models: null,
      workspace_roots: [join(service.root, 'project')],
      rates: { requests_per_minute: 50 },
      budgets: null,
    });
    const later = await told('keys', 'change', 'ci', '--expires-in', '2d');
    assert.deepEqual(later.narrowing, narrowing);
    assert.ok(later.expires_at > expires_at);
    const rotated = (await said('keys', 'rotate', 'ci', '--overlap', '0')).trim();
    assert.equal((await call(service, 'GET', 'models', undefined, secret)).status, 401);
    assert.equal((await call(service, 'GET', 'models', undefined, rotated)).status, 200);
    assert.match(await said('keys', 'revoke', 'ci'), /^ci +default +user +revoked/mu);
    assert.equal((await call(service, 'GET', 'models', undefined, rotated)).status, 401);
  },
);

test('tenants are made and bounded by commands', limit, async () => {
  assert.match(await said('tenants', 'create', 'acme', '--budget-day', '5'), /^acme .* \$5\/day$/mu);
  await said('tenants', 'budgets', 'acme', '--budget-month', '90');
  assert.match(await said('tenants', 'list'), /^acme .* \$5\/day \$90\/month\ndefault .* -\n$/mu);
  assert.equal((await told('tenants', 'budgets', 'acme', '--budget-day', 'any')).budgets.day, null);
  const made = await told('keys', 'create', '--tenant', 'acme', '--role', 'operator');
  const own = await admin(service, 'GET', 'usage', undefined, made.secret);
  assert.equal(own.status, 200);
});

test('everything is stopped and goes on by commands', limit, async () => {
  const ask = async (key: string) =>
    (await query(service, { prompt: scripted([{ text: 'Hi.' }]), permission_mode: 'readOnly' }, { key })).body['code'];
  const other = await makeTenant(service, 'other');
  const { stop_id: id } = await told('stop', 'tenant', 'other', '--reason', 'red\u001b[31m');
  assert.deepEqual([await ask(other), await ask(userKey)], ['stopped', undefined]);
  const stops = await said('stops');
  assert.match(stops, new RegExp(`^${id} +tenant +other +- .* master +red\ufffd\\[31m$`, 'mu'), stops);
  await said('stop', 'key', 'default', 'key-1');
  assert.equal(await ask(userKey), 'stopped');
  for (const { stop_id } of await told('stops')) await said('lift', stop_id);
  assert.deepEqual([await ask(other), await ask(userKey)], [undefined, undefined]);
});

test('what cannot be done is one readable line and a code', limit, async () => {
  const cases: [string[], number, ...string[]][] = [
    [['keys', 'rotate', 'nobody'], 1, 'There is no such key'],
    [['keys', 'create', '--role', 'root'], 1, 'role: Input should be one of admin'],
    [['keys', 'create', '--root', 'nowhere'], 1, 'narrowing.workspace_roots.0: is no directory'],
    [['tenants', 'create', 'default'], 1, 'already'],
    [['tenants', 'budgets', 'default'], 1, '--budget-day'],
    [['stop', 'all', 'other'], 1, 'tenant <id>'],
    [['lift', 'stop-1'], 1, 'There is no such stop'],
    [['keys', 'create', '--budget-day', 'much'], 64, '--budget-day', 'number'],
    [['keys', 'rotate'], 64, 'name'],
    [['keys', 'list', '--mode', 'strict'], 64, '--mode'],
  ];
  for (const [args, code, ...words] of cases) assertLine(await sallyport(args), code, ...words);
  assertLine(await sallyport(['stops'], { SALLYPORT_PORT: '1' }), 1, 'no service answers', ':1', 'serve');
  assertLine(await sallyport(['stops'], { SALLYPORT_PORT: 'x' }), 78, 'SALLYPORT_PORT');
  assertLine(await sallyport(['stops'], { CLAUDE_API_MASTER_KEY: userKey }), 1, 'does not have the right');
  assertLine(await sallyport(['stops'], { CLAUDE_API_MASTER_KEY: '' }), 1, 'CLAUDE_API_MASTER_KEY', 'admin-key');
  const upstream = new URL(service.simulator.url).port;
  assertLine(await sallyport(['stops'], { SALLYPORT_PORT: upstream }), 1, 'not Sallyport');
});

/** Nothing but one line of failure, that names these words. */
function assertLine({ code, out, error }: Ended, expected: number, ...words: string[]): void {
  assert.deepEqual([code, out, error.split('\n').length], [expected, '', 2], `${out}${error}`);
  assert.match(error, /^(?:sallyport|error): \S/u);
  for (const word of words) assert.ok(error.includes(word), `${word} is not in: ${error}`);
}

test('a key reads what it used, and an operator what its tenant did', limit, async () => {
  const budgets = { run: 0.5, day: 3 };
  await administer(service, 'POST', 'tenants', { id: 'spender', budgets: { month: 9 } });
  const web = await makeKey(service, {
    tenant: 'spender',
    name: 'web',
    narrowing: { budgets: { ...budgets, run: null } },
  });
  const desk = await makeKey(service, { tenant: 'spender', name: 'desk', role: 'operator' });
  const steps = [{ text: 'Hello.', usage: { input_tokens: 10, output_tokens: 20 } }];
  const { body } = await query(service, { prompt: scripted(steps), permission_mode: 'readOnly' }, { key: web });
  const own = (await call(service, 'GET', 'usage', undefined, web)).body;
  assert.deepEqual(
    own['items'].map((line: any) => [line.tenant, line.key, line.model, line.calls, line.cost_usd]),
    [['spender', 'web', 'sallyport-simulator', 1, body['cost_usd']]],
    JSON.stringify(body),
  );
  assert.deepEqual(
    own['budgets'].map((each: any) => [each.of, each.period, each.limit_usd, each.spent_usd, each.reserved_usd]),
    [
      ['key', 'day', 3, body['cost_usd'], 0],
      ['tenant', 'month', 9, body['cost_usd'], 0],
    ],
  );
  assert.deepEqual((await call(service, 'GET', 'usage', undefined, desk)).body['items'], []);
  const read = (key: string, search = '') => admin(service, 'GET', `usage${search}`, undefined, key);
  assert.deepEqual((await read(desk)).body['items'], own['items']);
  assert.equal((await read(desk, '?tenant=default')).status, 403);
  assert.equal((await read(web)).status, 403);
  assert.deepEqual((await read(masterKey, '?tenant=spender&key=web')).body['items'], own['items']);
  assert.equal((await read(masterKey, '?from=2020-01-01&to=2022-01-01')).status, 422);
});

test('what was done by command is in the audit log, whole', limit, async () => {
  const lines = await auditLines(service);
  const actions = new Set(lines.map(({ action }) => action));
  const expected = 'key.create key.change key.rotate key.revoke tenant.create tenant.budgets stop.add stop.lift';
  for (const action of expected.split(' ')) assert.ok(actions.has(action), action);
  const page = await administer(service, 'GET', 'audit?limit=1000');
  assert.deepEqual(page['items'].slice(0, lines.length), lines);
  assert.match(await said('audit', 'verify'), /is whole: \d+ lines/u);
});
