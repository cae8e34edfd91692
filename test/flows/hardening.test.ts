import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { defaultBounds, errorBody, operations, type Operation } from '@sallyport/protocol';
import type { Brain } from '@sallyport/simulator';
import { openSocket } from '../../packages/server/src/http/socket-support.ts';
import { exchange } from '../../packages/server/src/http/testing.ts';
import { call } from '../support/approvals.ts';
import { processesWith } from '../support/processes.ts';
import { answerOf, rows, scripted } from '../support/runs.ts';
import { masterKey, query, startService, userKey, type TestService } from '../support/service.ts';

const timeout = 300;
/** Keys that begin with each other. */
const alike = {
  a: 'beginning-of-keys-0123456789',
  b: 'beginning-of-keys-012345678',
  c: 'beginning-of-keys-0123456789x',
};

let service: TestService;
let brain: Brain = () => ({ text: 'Done.' });
before(async () => {
  service = await startService({
    script: (request, context) => brain(request, context),
    env: { CLAUDE_API_KEY_2: alike.a, CLAUDE_API_KEY_3: alike.b, CLAUDE_API_KEY_4: alike.c },
  });
});
after(() => service.close());

const port = () => Number(new URL(service.url).port);
const table = Object.values<Operation>(operations(defaultBounds));
const pathOf = ({ path }: Operation, id: string): string =>
  path.replace('{session_id}', id).replaceAll(/\{\w+(\.\.\.)?\}/g, 'x');

/** All that is stored, but for the audit log, which names who was refused, and what is written to see whether it can be. */
function stored(): Record<string, unknown> {
  const tables = rows(
    service,
    "select name, sql from sqlite_master where type = 'table' and name not like '%check%' and name not like 'audit%'",
  );
  const contents = tables.map(({ name }) => [name, rows(service, `select * from "${name}"`)]);
  return { tables, contents };
}

test('of a stranger nothing is stored, nothing is started and nothing is asked', async () => {
  const before = stored();
  const body = 'x'.repeat(1_000);
  const writings = [
    (path: string) => path,
    (path: string) => `/health/..${path}`,
    (path: string) => `http://localhost${path}`,
    (path: string) => path.replaceAll('/', '%2f').replace('%2f', '/'),
    (path: string) => `${path}?ticket=' or 1=1 --&key=${userKey}`.replaceAll(' ', '+'),
  ];
  for (const operation of table.filter(({ right }) => right !== 'public')) {
    for (const [at, write] of writings.entries()) {
      const target = write(pathOf(operation, 'x'));
      for (const key of ['', "Authorization: Bearer ' or '1'='1\r\n", `Authorization: Bearer ${userKey}x\r\n`]) {
        const head = `${operation.method} ${target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${key}`;
        const answer = await exchange(port(), `${head}Content-Length: ${body.length}\r\n\r\n${body}`);
        assert.match(answer, at === 0 ? /^HTTP\/1\.1 401 / : /^HTTP\/1\.1 4\d\d /, `${operation.id} ${target}`);
      }
    }
  }
  const upgrade =
    'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n';
  for (const lines of [
    '',
    'Authorization: Bearer x\r\n',
    `Authorization: Bearer ${userKey}\r\nOrigin: http://evil.test\r\n`,
  ]) {
    const answer = await exchange(port(), `GET /ws/a HTTP/1.1\r\nHost: localhost\r\n${upgrade}${lines}\r\n`);
    assert.match(answer, /^HTTP\/1\.1 40[13] /);
  }
  assert.deepEqual(stored(), before);
  assert.deepEqual(service.sallyport.processes(), []);
  assert.deepEqual(service.simulator.requests, []);
});

const injections = [
  "' or '1'='1",
  "'; drop table conversations; --",
  '"; drop table turns; --',
  "x' union select secret from keys --",
  "x'||(select name from sqlite_master)||'",
  '%',
  '_',
  '*',
  "\\'; delete from events; --",
  "$1'); delete from turns; --",
  ":name' or 1=1",
  '?',
];

test('SQL in a header or an id is text like any other', async () => {
  const before = stored();
  const names = (
    'Host-X User-Agent X-Request-Id X-Forwarded-For Referer Cookie Accept Origin Idempotency-Key Last-Event-ID ' +
    'Accept-Language If-None-Match Range X-Api-Key'
  ).split(' ');
  const good = `Authorization: Bearer ${userKey}\r\n`;
  const ask = async (line: string, headers: string, body = '') => {
    const head = `${line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${headers}`;
    const type = body === '' ? '' : `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n`;
    const answer = await exchange(port(), `${head}${type}\r\n${body}`);
    const status = Number(answer.split(' ')[1]);
    assert.ok(status < 500, `${line}: ${headers}: ${answer}`);
    return status;
  };
  const nobody = JSON.stringify({ prompt: 'x', model: 'nobody' });
  for (const text of injections) {
    assert.equal(await ask('GET /api/claude/models', `Authorization: Bearer ${text}\r\n`), 401);
    for (const name of names) {
      await ask('GET /api/claude/conversation', `${good}${name}: ${text}\r\n`);
      assert.notEqual(await ask('POST /api/claude/query', `${good}${name}: ${text}\r\n`, nobody), 200);
      await ask('GET /api/claude/conversation/x/events', `${name}: ${text}\r\n`);
    }
    const part = encodeURIComponent(text).replaceAll("'", '%27');
    for (const operation of table.filter(({ right, path }) => right !== 'public' && path.includes('{'))) {
      const path = operation.path.replaceAll(/\{\w+(\.\.\.)?\}/g, part);
      const status = await ask(`${operation.method} ${path}`, good, operation.body ? '{}' : '');
      assert.ok(status >= 400, `${operation.id}: ${text}`);
    }
    for (const name of ['cursor', 'status', 'kind', 'limit', 'after', 'session_id', 'ticket', text]) {
      const search = `${encodeURIComponent(name)}=${part}`;
      for (const path of ['conversation', 'approvals', 'conversation/x/events']) {
        assert.ok((await ask(`GET /api/claude/${path}?${search}`, good)) >= 400, `${path}: ${search}`);
      }
      await ask(`POST /api/claude/conversation/start?${search}`, good, nobody);
    }
  }
  const client = await openSocket(port(), '/ws/a', { headers: { authorization: `Bearer ${userKey}` } });
  for (const text of injections) {
    for (const frame of [
      { type: 'resume', session_id: text },
      { type: 'resume', session_id: 'x', after: text },
      { type: 'interrupt', session_id: text },
      { type: 'end_conversation', session_id: text },
      { type: 'send_message', session_id: text, message: text },
      { type: 'approval', approval_id: text, decision: 'deny', message: text },
      { type: 'answer', question_id: text, answers: { [text]: text } },
      { type: 'start_conversation', prompt: text, session_id: `${text}'` },
    ]) {
      client.send(frame);
      const told = await client.next();
      assert.ok(told.type === 'error' && told.code !== 'internal', JSON.stringify(told));
    }
  }
  client.socket.close();
  assert.deepEqual(stored(), before);
  assert.deepEqual(service.simulator.requests, []);
});

test('what a caller sends is told as it is, and nothing but a schema is an argument of a process, and a whole one', async () => {
  const canary = "canary-5e1'; drop table turns; --";
  const output_schema = { type: 'object', title: '--settings={} schema-5e1', properties: {} };
  const common = { system_prompt: canary, permission_mode: 'readOnly', output_schema, timeout };
  const files = [{ path: `${canary}.txt`, content: canary }];
  let found: unknown = null;
  let commands: string[] = [];
  brain = async () => {
    found = await processesWith('canary-5e1');
    commands = (await processesWith('schema-5e1')).map(({ command }) => command);
    return { tools: [{ id: 'answer', name: 'StructuredOutput', input: {} }] };
  };
  const authorization = `Bearer ${userKey}`;
  const conversation = `${service.url}/api/claude/conversation`;
  const names = { 'x-request-id': 'canary-5e1', 'user-agent': canary, 'idempotency-key': canary.replaceAll(' ', '+') };
  const response = await fetch(`${conversation}/start?session_id=canary-5e1`, {
    method: 'POST',
    headers: { authorization, 'content-type': 'application/json', ...names },
    body: JSON.stringify({ ...common, prompt: canary, metadata: { [canary]: canary }, files }),
  });
  const body = (await response.json()) as Record<string, any>;
  assert.deepEqual([response.status, body['success']], [200, true], JSON.stringify(body));
  assert.deepEqual(found, []);
  assert.ok(commands.length > 0);
  for (const command of commands) assert.ok(command.includes(` --json-schema=${JSON.stringify(output_schema)} --`));
  const get = async (path: string) => (await call(service, 'GET', `conversation/canary-5e1/${path}`)).body;
  assert.equal((await get('messages'))['items'][0].content, canary);
  assert.deepEqual((await get('info'))['metadata'], { [canary]: canary });
  const path = `${conversation}/canary-5e1/files/${encodeURIComponent(canary)}.txt`;
  assert.equal(await (await fetch(path, { headers: { authorization } })).text(), canary);
  assert.equal(rows(service, 'select count(*) as count from turns')[0]?.['count'], 1);
});

test('a schema of many bytes is run or refused for that, and never for want of a place', async () => {
  brain = () => ({ tools: [{ id: 'answer', name: 'StructuredOutput', input: {} }] });
  const output_schema = { type: 'object', title: '漢'.repeat(49_000), properties: {} };
  const { status, body } = await query(service, { prompt: 'x', output_schema, timeout });
  assert.ok(status === 422 || body['success'] === true, JSON.stringify(body));
});

test('an id that is a name of JavaScript is an id like any other', async () => {
  brain = () => ({ text: 'Done.' });
  for (const id of ['__proto__', 'constructor']) {
    assert.equal((await call(service, 'GET', `conversation/${id}/info`)).status, 404);
    const started = await call(service, 'POST', `conversation/start?session_id=${id}`, {
      prompt: `for ${id}`,
      timeout,
    });
    assert.deepEqual([started.status, started.body['session_id']], [200, id], JSON.stringify(started.body));
    const again = await call(service, 'POST', `conversation/start?session_id=${id}`, { prompt: 'x' });
    assert.equal(again.status, 409);
    const client = await openSocket(port(), `/ws/${id}`, { headers: { authorization: `Bearer ${userKey}` } });
    client.send({ type: 'resume', session_id: id });
    const told = await client.until('claude_response');
    assert.ok(told.every((frame) => frame.type === 'claude_response' && frame.session_id === id));
    client.socket.terminate();
  }
  const other = await call(service, 'GET', 'conversation/toString/info');
  assert.equal(other.status, 404);
  assert.equal((await call(service, 'DELETE', 'conversation/__proto__')).status, 200);
  assert.equal((await call(service, 'GET', 'conversation/constructor/info')).body['message_count'], 2);
});

test('keys that begin with each other share nothing', async () => {
  const keys = Object.values(alike);
  for (const key of keys) {
    const body = { prompt: scripted([{ text: 'Done.' }], `of ${key}`), timeout };
    assert.equal(
      (await call(service, 'POST', 'conversation/start?session_id=mine-too', body, alike.a)).status,
      key === alike.a ? 200 : 409,
    );
    const { body: answer } = await query(service, { prompt: `hello from ${key.length}`, timeout }, { key });
    assert.equal(answerOf(answer), 'Done.', JSON.stringify(answer));
  }
  for (const key of keys) {
    const { body } = await call(service, 'GET', 'conversation?kind=query', undefined, key);
    const items = body['items'] as { session_id: string }[];
    assert.equal(items.length, 1);
    for (const other of keys.filter((one) => one !== key)) {
      const { status } = await call(service, 'GET', `conversation/${items[0]?.session_id}/info`, undefined, other);
      assert.equal(status, 404);
    }
  }
  for (const near of [`${alike.c}x`, alike.b.slice(0, -1), alike.a.slice(0, 20), alike.a.toUpperCase()]) {
    assert.equal((await call(service, 'GET', 'models', undefined, near)).status, 401);
  }
});

test('a key that used its limit up leaves those that begin with it what they have', async () => {
  const env = {
    CLAUDE_API_KEY_2: alike.a,
    CLAUDE_API_KEY_3: alike.b,
    CLAUDE_API_KEY_4: alike.c,
    SALLYPORT_BURST_SIZE: '5',
  };
  const limited = await startService({ env });
  try {
    const ask = async (key: string) => (await call(limited, 'GET', 'models', undefined, key)).status;
    const spend = async (key: string) => {
      for (let count = 0; count < 5; count += 1) assert.equal(await ask(key), 200);
      assert.equal(await ask(key), 429);
    };
    for (const key of Object.values(alike)) await spend(key);
    assert.equal(await ask(userKey), 200);
  } finally {
    await limited.close();
  }
});

test('every route that takes the id of a conversation answers another key as if there were none', async () => {
  const own = await call(
    service,
    'POST',
    'conversation/start?session_id=of-the-admin',
    { prompt: 'x', timeout },
    masterKey,
  );
  assert.equal(own.status, 200, JSON.stringify(own.body));
  const bodies: Record<string, (id: string) => object> = {
    continueConversation: (session_id) => ({ session_id, message: 'x' }),
    forkConversation: () => ({}),
  };
  const before = rows(service, 'select * from events').length;
  const taking = table.filter(({ path }) => path.includes('{session_id}'));
  assert.ok(taking.length >= 10);
  for (const operation of taking) {
    const ask = async (id: string) => {
      const { status, body } = await call(
        service,
        operation.method,
        pathOf(operation, id).replace('/api/claude/', ''),
        operation.body && bodies[operation.id]?.(id),
      );
      const { request_id: _, ...error } = errorBody.parse(body);
      return { status, error };
    };
    const answer = await ask('of-the-admin');
    assert.deepEqual([answer.status, answer.error.code], [404, 'conversation_not_found'], operation.id);
    assert.deepEqual(answer, await ask('never-was'), operation.id);
  }
  assert.equal(rows(service, 'select * from events').length, before);
  assert.equal((await call(service, 'GET', 'conversation/of-the-admin/info', undefined, masterKey)).status, 200);
});
