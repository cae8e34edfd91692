import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Step } from '@sallyport/simulator';
import { openSocket } from '../../packages/server/src/http/socket-support.ts';
import { admin, administer, auditLines } from '../support/admin.ts';
import { call } from '../support/approvals.ts';
import { giveToProjectUser } from '../support/commands.ts';
import { callsWith, scripted, turnState, until } from '../support/runs.ts';
import { masterKey, query, startService, type TestService } from '../support/service.ts';

let service: TestService;
before(async () => {
  const models = 'sallyport-simulator,another-model';
  service = await startService({ env: { SALLYPORT_MODELS: models, SALLYPORT_LOG_LEVEL: 'trace' } });
});
after(() => service.close());

const limit = { timeout: 120_000 };
const base = 'tenants/default/keys';
/** Every secret that any test was given. */
const secrets: string[] = [];

/** Makes a key, as the master or another admin, and gives what was answered. */
async function make(name: string, more: object = {}, by = masterKey): Promise<Record<string, any>> {
  const { status, body } = await admin(service, 'POST', base, { name, role: 'user', ...more }, by);
  assert.equal(status, 201, JSON.stringify(body));
  secrets.push(body['secret']);
  return body;
}

/** The status of a request that every valid key may make. */
async function statusOf(key: string): Promise<number> {
  return (await call(service, 'GET', 'models', undefined, key)).status;
}

const say = (text: string) => scripted([{ text }]);
const endless: Step = { text: 'word '.repeat(1000), rate: 10 };

test('a key is shown once, listed without its secret, and can be used', limit, async () => {
  const { secret, ...made } = await make('shown');
  const { items } = await administer(service, 'GET', base);
  assert.deepEqual(
    items.find(({ name }: { name: string }) => name === 'shown'),
    made,
  );
  assert.ok(!JSON.stringify(items).includes(secret));
  const { status, body } = await query(
    service,
    { prompt: say('Hello.'), permission_mode: 'readOnly' },
    { key: secret },
  );
  assert.deepEqual([status, body['success']], [200, true], JSON.stringify(body));
  assert.equal((await admin(service, 'POST', base, { name: 'shown', role: 'user' })).status, 409);
  assert.equal((await admin(service, 'GET', base, undefined, secret)).status, 403);
});

test('a narrowed key is refused what it may not, by the part that it may not', limit, async () => {
  const [inner, outer] = [join(service.root, 'inner'), join(service.root, 'outer')];
  for (const path of [inner, outer]) {
    await mkdir(path);
    await giveToProjectUser(path);
  }
  const narrowing = {
    permission_modes: ['readOnly'],
    tools: ['Read', 'Glob'],
    models: ['sallyport-simulator'],
    workspace_roots: [inner],
  };
  const { secret } = await make('narrow', { narrowing });
  const ask = async (more: object) => {
    const request = { prompt: say('Well.'), permission_mode: 'readOnly', project_path: inner, ...more };
    const { status, body } = await query(service, request, { key: secret });
    return status === 200 ? body['success'] : body['code'];
  };
  assert.equal(await ask({}), true);
  assert.equal(await ask({ allowed_tools: ['Glob'], model: 'sallyport-simulator' }), true);
  assert.equal(await ask({ permission_mode: 'acceptEdits', allowed_tools: ['Read'] }), 'mode_not_allowed');
  assert.equal(await ask({ allowed_tools: ['Read', 'Grep'] }), 'tool_not_allowed');
  assert.equal(await ask({ model: 'another-model' }), 'model_not_allowed');
  assert.equal(await ask({ project_path: outer }), 'path_not_allowed');
  const { body } = await call(service, 'GET', 'models', undefined, secret);
  assert.deepEqual(body['models'], ['sallyport-simulator']);
});

test('a narrowing counts from the next request on', limit, async () => {
  const { secret } = await make('changed');
  const ask = async () => (await query(service, { prompt: say('Hi.') }, { key: secret })).status;
  assert.equal(await ask(), 200);
  await administer(service, 'PATCH', `${base}/changed`, { narrowing: { permission_modes: ['readOnly'] } });
  assert.equal(await ask(), 403);
  await administer(service, 'PATCH', `${base}/changed`, { narrowing: null });
  assert.equal(await ask(), 200);
});

test('a key that has expired is unknown', limit, async () => {
  const { secret } = await make('short', { expires_in: 1 });
  assert.equal(await statusOf(secret), 200);
  await until(async () => (await statusOf(secret)) === 401);
});

test('after a rotation both secrets are valid for a while, and then the new one', limit, async () => {
  const first = await make('turned');
  const start = { prompt: say('Mine.'), permission_mode: 'readOnly' };
  await call(service, 'POST', 'conversation/start?session_id=of-turned', start, first['secret']);
  const second = await administer(service, 'POST', `${base}/turned/rotate`, { overlap: 1 });
  secrets.push(second['secret']);
  assert.equal(await statusOf(second['secret']), 200);
  assert.equal(await statusOf(first['secret']), 200);
  await until(async () => (await statusOf(first['secret'])) === 401);
  assert.equal(await statusOf(second['secret']), 200);
  const info = await call(service, 'GET', 'conversation/of-turned/info', undefined, second['secret']);
  assert.equal(info.status, 200, 'it is the same key');
});

test('with a key that is revoked its streams, sockets and turns end', limit, async () => {
  const { secret } = await make('gone');
  const headers = { authorization: `Bearer ${secret}`, 'content-type': 'application/json' };
  const answer = call(
    service,
    'POST',
    'conversation/start?session_id=of-gone',
    { prompt: scripted([endless], 'gone-'), permission_mode: 'readOnly', timeout: 300 },
    secret,
  ).catch(() => null);
  await until(() => callsWith(service, 'gone-').length > 0);
  const events = await fetch(`${service.url}/api/claude/conversation/of-gone/events`, { headers });
  assert.equal(events.status, 200);
  const streamed = events.text().catch(() => 'cut');
  const socket = await openSocket(Number(new URL(service.url).port), '/ws/of-gone', { headers });
  await administer(service, 'DELETE', `${base}/gone`);
  assert.equal(await statusOf(secret), 401);
  await Promise.all([socket.closed, streamed, answer]);
  await until(() => turnState(service, 'gone-') === 'interrupted');
  await until(() => callsWith(service, 'gone-').every(({ outcome }) => outcome === 'client_left'));
});

test('an admin that is narrowed gives no more than it has, and takes no wider key over', limit, async () => {
  const root = await realpath(service.root);
  const part = { tools: ['Read'], workspace_roots: [root], budgets: { day: 1 } };
  const { secret: own } = await make('part', { role: 'admin', narrowing: part, expires_in: 3600 });
  const { secret: wide } = await make('wide', { role: 'admin' });
  const child = await make('child', {}, own);
  assert.deepEqual([child['narrowing'].tools, child['narrowing'].budgets.day], [['Read'], 1]);
  assert.notEqual(child['expires_at'], null);
  const refusal = async (method: string, path: string, body: object) => {
    const answer = await admin(service, method, path, body, own);
    return [answer.status, answer.body['code'], String(answer.body['detail'])] as const;
  };
  const refused: [string, string, string, object][] = [
    ['narrowing.tools', 'POST', base, { role: 'user', narrowing: { tools: ['Read', 'Bash'] } }],
    ['narrowing.budgets', 'POST', base, { role: 'user', narrowing: { budgets: { day: 2 } } }],
    ['narrowing.workspace_roots', 'POST', base, { role: 'user', narrowing: { workspace_roots: ['/'] } }],
    ['expires_in', 'POST', base, { role: 'user', expires_in: 7200 }],
    ['narrowing.tools', 'PATCH', `${base}/child`, { narrowing: { tools: ['Bash'] } }],
    ['narrowing.tools', 'PATCH', `${base}/wide`, { narrowing: part }],
    ['narrowing.tools', 'POST', `${base}/wide/rotate`, {}],
  ];
  for (const [name, method, path, body] of refused) {
    const [status, code, detail] = await refusal(method, path, body);
    assert.deepEqual([status, code, detail.includes(`: ${name}.`)], [403, 'beyond_own_rights', true], detail);
  }
  assert.equal(await statusOf(wide), 200);
});

test('a key cannot be made with half a request that was begun before the own key was revoked', limit, async () => {
  const { secret: own } = await make('late', { role: 'admin' });
  const body = new TransformStream<Uint8Array, Uint8Array>();
  const writer = body.writable.getWriter();
  const text = new TextEncoder().encode(JSON.stringify({ name: 'late-child', role: 'admin' }));
  const answer = fetch(`${service.url}/api/admin/${base}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${own}`, 'content-type': 'application/json' },
    body: body.readable,
    duplex: 'half',
  }).then(
    ({ status }) => status,
    () => 'cut',
  );
  await writer.write(text.slice(0, 5));
  await until(async () => (await auditLines(service)).some(({ actor }) => actor === 'late'));
  await administer(service, 'DELETE', `${base}/late`);
  await writer.write(text.slice(5));
  await writer.close().catch(() => undefined);
  assert.ok([401, 'cut'].includes(await answer));
  const { items } = await administer(service, 'GET', base);
  assert.ok(!JSON.stringify(items).includes('late-child'));
});

/** The bytes of every file below a directory, by name. */
async function filesBelow(directory: string): Promise<[string, string][]> {
  const files = (await readdir(directory, { recursive: true, withFileTypes: true })).filter((file) => file.isFile());
  return Promise.all(
    files.map(async ({ parentPath, name }): Promise<[string, string]> => {
      return [name, await readFile(join(parentPath, name), 'latin1')];
    }),
  );
}

test('every change has its line in the audit log, and no secret is there, in a log or in a file', limit, async () => {
  const lines = await auditLines(service);
  const told = (subject: string) => lines.filter((line) => line['subject'] === subject).map(({ action }) => action);
  assert.deepEqual(told('turned'), ['key.create', 'key.rotate']);
  assert.deepEqual(told('changed'), ['key.create', 'key.change', 'key.change']);
  assert.deepEqual(told('gone'), ['key.create', 'key.revoke']);
  const child = lines.find(({ subject, action }) => subject === 'child' && action === 'key.create');
  assert.deepEqual([child?.['actor'], child?.['details'].tools], ['part', '["Read"]']);
  const files = await filesBelow(service.dataDir);
  assert.ok(files.some(([name]) => name === 'sallyport.db'));
  const places: [string, string][] = [
    ['the audit log', JSON.stringify(lines)],
    ['the log', service.logs.join('')],
    ...files,
  ];
  assert.ok(secrets.length >= 10 && new Set(secrets).size === secrets.length);
  for (const secret of secrets) {
    for (const [name, text] of places) assert.ok(!text.includes(secret), `${name} holds a secret`);
  }
});
