import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { defaultBounds, operations, type Operation, type Right } from '@sallyport/protocol';
import type { Brain } from '@sallyport/simulator';
import { mayUse } from '../../packages/server/src/engine/principal.ts';
import { WebSocket } from 'ws';
import { admin, administer, auditLines, makeKey } from '../support/admin.ts';
import { call } from '../support/approvals.ts';
import { inBatches, rows, until } from '../support/runs.ts';
import { startService, type TestService } from '../support/service.ts';

const tenants = Array.from({ length: 50 }, (_, index) => `tenant-${index}`);
const canary = (tenant: string, kind: string): string => `canary-of-${tenant}-${kind}-end`;
const canaries = /canary-of-(?<tenant>tenant-\d+)-\w+-end/gu;

/** The tenants whose canaries are in a text. */
const ownersIn = (text: string): string[] =>
  [...new Set([...text.matchAll(canaries)].map((found) => found.groups?.['tenant'] ?? ''))].toSorted();

/** Reads the file, says all of its canaries, asks to write one, and says all that it was ever told. */
const gossip: Brain = ({ messages }, { call: step }) => {
  const known = JSON.stringify(messages);
  const said = [...new Set([...known.matchAll(canaries)].map(([text]) => text))].join(' ');
  if (step === 0) return { tools: [{ name: 'Read', input: { file_path: '/workspace/secret.txt' } }] };
  if (step === 1) return { tools: [{ name: 'Glob', input: { pattern: '**/*', path: '/' } }], text: said };
  return { text: `All I know: ${said}.` };
};

interface Member {
  readonly tenant: string;
  readonly user: string;
  readonly operator: string;
}

let service: TestService;
let members: Member[];

before(async () => {
  service = await startService({ script: gossip });
  members = [];
  for (const tenant of tenants) {
    await administer(service, 'POST', 'tenants', { id: tenant });
    members.push({
      tenant,
      user: await makeKey(service, { tenant, name: 'web' }),
      operator: await makeKey(service, { tenant, name: 'desk', role: 'operator' }),
    });
  }
});
after(() => service.close());

/** Asks a route as text, whatever it answers with. */
async function ask(key: string, method: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
  const response = await fetch(`${service.url}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${key}`,
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  return { status: response.status, text: await response.text(), headers: response.headers };
}

const conversation = '/api/claude/conversation';
/** The same for all tenants, but for the content of the file and the label. */
const request = (tenant: string) => ({
  prompt: 'What is in secret.txt?',
  permission_mode: 'acceptEdits',
  allowed_tools: ['Read', 'Glob'],
  cache: 'auto',
  files: [{ path: 'secret.txt', content: canary(tenant, 'file') }],
  metadata: { label: canary(tenant, 'label') },
});

test('fifty tenants with the same ids, prompts, paths and keys each get their own', { timeout: 300_000 }, async () => {
  const once = { 'idempotency-key': 'the-same-for-all' };
  await inBatches(4, members, async ({ tenant, user }) => {
    const start = await ask(user, 'POST', `${conversation}/start?session_id=same`, request(tenant), once);
    assert.equal(start.status, 200, start.text);
    assert.equal(start.headers.get('idempotency-replayed'), null, 'nobody is given what another was answered');
    assert.deepEqual(ownersIn(start.text), [tenant]);
  });
  await inBatches(4, members, async ({ tenant, user }) => {
    const message = { session_id: 'same', message: 'And what else do you know?' };
    const next = await ask(user, 'POST', `${conversation}/same/continue`, message);
    assert.equal(next.status, 200, next.text);
    assert.deepEqual(ownersIn(next.text), [tenant], 'a turn knows the past of its own conversation only');
    const replayed = await ask(user, 'POST', `${conversation}/start?session_id=same`, request(tenant), once);
    assert.equal(replayed.headers.get('idempotency-replayed'), 'true');
    assert.deepEqual(ownersIn(replayed.text), [tenant]);
  });
  for (const { body } of service.simulator.requests) {
    const owners = ownersIn(JSON.stringify(body));
    assert.ok(owners.length <= 1, `a model call holds what belongs to ${owners.join(' and ')}`);
  }
  assert.equal(new Set(service.simulator.requests.flatMap(({ body }) => ownersIn(JSON.stringify(body)))).size, 50);
});

const readings = [
  `${conversation}?kind=conversation`,
  `${conversation}?kind=query`,
  `${conversation}/same/info`,
  `${conversation}/same/messages`,
  `${conversation}/same/events?follow=false`,
  `${conversation}/same/diff`,
  `${conversation}/same/files`,
  `${conversation}/same/files/secret.txt`,
  `${conversation}/same/files.zip`,
  '/api/claude/approvals',
  '/api/claude/usage',
  '/api/claude/models',
  '/api/claude/health',
];

test('whatever a tenant reads is its own', { timeout: 120_000 }, async () => {
  for (const { tenant, user, operator } of members) {
    const seen = new Set<string>();
    for (const key of [user, operator]) {
      for (const path of readings) {
        const { status, text } = await ask(key, 'GET', path);
        assert.equal(status, 200, `${path}: ${text}`);
        for (const owner of ownersIn(text)) seen.add(owner);
      }
    }
    assert.deepEqual([...seen], [tenant]);
    for (const path of ['/api/admin/audit?limit=1000', '/api/admin/audit.jsonl', '/api/admin/usage']) {
      assert.equal((await ask(user, 'GET', path)).status, 403);
      const { status, text } = await ask(operator, 'GET', path);
      assert.equal(status, 200, text);
      const named = new Set([...text.matchAll(/"tenant":"(?<name>[^"]+)"/gu)].map((found) => found.groups?.['name']));
      assert.deepEqual([...named], [tenant], path);
    }
  }
});

/** Every route that takes the id of something that belongs to a tenant. */
const byId = Object.values<Operation>(operations(defaultBounds)).filter(
  ({ params }) => params && ('session_id' in params.shape || 'approval_id' in params.shape),
);

/** A good request to the route for these ids. */
function requestFor({ id: operation, method, path }: Operation, id: string, approval: string) {
  const bodies: Record<string, unknown> = {
    continueConversation: { session_id: id, message: 'Hi.' },
    forkConversation: {},
    decideApproval: { decision: 'allow' },
  };
  const url = path.replace('{session_id}', id).replace('{approval_id}', approval).replace('{path...}', 'secret.txt');
  const query = operation === 'conversationEvents' ? '?follow=false' : '';
  return { method, url: url + query, body: bodies[operation] };
}

test('there are routes that take an id', () => {
  assert.ok(byId.length >= 13, byId.map(({ id }) => id).join());
});

test('ids of another tenant are as unknown ones, by every route that takes one', { timeout: 120_000 }, async () => {
  const [first, second] = members as [Member, Member];
  const write = { name: 'Write', input: { file_path: '/workspace/x', content: 'x' } };
  service.simulator.play(() => ({ tools: [write] }));
  const waits = call(service, 'POST', 'conversation/start?session_id=only-one', { prompt: 'Write.' }, first.user);
  let approval = '';
  await until(async () => {
    const { body } = await call(service, 'GET', 'approvals?status=pending', undefined, first.user);
    approval = body['items'][0]?.approval_id ?? '';
    return approval !== '';
  });
  for (const key of [second.user, second.operator]) {
    for (const operation of byId) {
      const asked = async (id: string, approvalId: string) => {
        const { method, url, body } = requestFor(operation, id, approvalId);
        const { status, text } = await ask(key, method, url, body);
        return { status, text: text.replaceAll(/"request_id":"[^"]*"/gu, '') };
      };
      const foreign = await asked('only-one', approval);
      assert.deepEqual(foreign, await asked('is-not-there', `${approval.slice(0, -4)}0000`), operation.id);
      const right = mayUse({ role: key === second.user ? 'user' : 'operator' }, operation.right as Right);
      assert.equal(foreign.status, right ? 404 : 403, operation.id);
    }
  }
  const stillThere = await call(service, 'GET', `approvals/${approval}`, undefined, first.user);
  assert.equal(stillThere.body['status'], 'pending', 'and nothing has happened to it');
  service.simulator.play(gossip);
  await call(service, 'POST', `approvals/${approval}`, { decision: 'deny' }, first.user);
  await waits;
  await assertSocketsApart(first, second);
});

/** Two tenants on sockets of the same label, of which one resumes a conversation of the other. */
async function assertSocketsApart(first: Member, second: Member): Promise<void> {
  const frames: Record<string, string[]> = { [first.tenant]: [], [second.tenant]: [] };
  const open = async ({ tenant, user }: Member): Promise<WebSocket> => {
    const socket = new WebSocket(`${service.url.replace('http', 'ws')}/ws/same-label`, {
      headers: { authorization: `Bearer ${user}` },
    });
    socket.on('message', (data: Buffer) => frames[tenant]?.push(data.toString()));
    await new Promise((resolve, reject) => {
      socket.once('open', resolve);
      socket.once('error', reject);
    });
    return socket;
  };
  const sockets = [await open(first), await open(second)];
  for (const socket of sockets) socket.send(JSON.stringify({ type: 'resume', session_id: 'same' }));
  sockets[1]?.send(JSON.stringify({ type: 'resume', session_id: 'only-one' }));
  const said = (tenant: string) => (frames[tenant] ?? []).join('\n');
  await until(() => ownersIn(said(first.tenant)).length > 0 && said(second.tenant).includes('conversation_not_found'));
  await until(() => ownersIn(said(second.tenant)).length > 0);
  assert.deepEqual([ownersIn(said(first.tenant)), ownersIn(said(second.tenant))], [[first.tenant], [second.tenant]]);
  for (const socket of sockets) socket.terminate();
}

test('what one tenant changes is changed for nobody else, and no log names what is theirs', async () => {
  const [first, second] = members as [Member, Member];
  assert.equal((await ask(first.user, 'DELETE', `${conversation}/same`)).status, 200);
  const left = await ask(second.user, 'GET', `${conversation}/same/messages`);
  assert.deepEqual([left.status, ownersIn(left.text)], [200, [second.tenant]]);
  await administer(service, 'DELETE', `tenants/${first.tenant}/keys/web`);
  assert.equal((await ask(first.user, 'GET', '/api/claude/models')).status, 401);
  assert.equal((await ask(second.user, 'GET', '/api/claude/models')).status, 200);
  assert.deepEqual(ownersIn(service.logs.join('\n')), []);
  assert.deepEqual(ownersIn(JSON.stringify(await auditLines(service))), []);
  const byTenant = rows(service, 'select distinct tenant from usage where tenant <> ?', 'default');
  assert.equal(byTenant.length, 50);
  const all = await admin(service, 'GET', 'usage');
  assert.equal(new Set((all.body['items'] as { tenant: string }[]).map(({ tenant }) => tenant)).size, 50);
});
