import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import {
  defaultBounds,
  errorCatalogue,
  formatCursor,
  operations,
  streamEvent,
  type Operation,
} from '@sallyport/protocol';
import type { InjectOptions } from 'fastify';
import { aborted, textItem, waitingPlay, type Reading } from './engine-support.ts';
import { eventually, exchange, keysWith, listen, testApp } from './testing.ts';

const limit = { timeout: 60_000 };
const table = Object.values<Operation>(operations(defaultBounds)).filter(({ right }) => right !== 'public');
const conversation = '/api/claude/conversation';

/** A body for each operation that takes one. */
const bodies: Readonly<Record<string, object>> = {
  query: { prompt: 'x' },
  stream: { prompt: 'x' },
  startConversation: { prompt: 'x' },
  continueConversation: { session_id: 'x', message: 'x' },
  forkConversation: {},
  decideApproval: { decision: 'deny' },
  createTenant: { id: 'x' },
  changeTenant: { budgets: null },
  createKey: { role: 'user' },
  changeKey: { expires_in: 60 },
  rotateKey: {},
  stop: { scope: 'all' },
  createJob: { request: { prompt: 'x' } },
  rotateWebhookSecret: {},
};

/** An app with a key of the store that can do everything, and what revokes it. */
async function revocable(options: Parameters<typeof testApp>[0] = {}) {
  const made = await keysWith('brief', { role: 'admin' });
  return { ...made, ...(await testApp({ keys: made.keys, ...options })) };
}

/** Something whose every function waits for ever, and how many of them do. What is waited for has no items either. */
function silent() {
  let waiting = 0;
  const wait = () => {
    waiting += 1;
    const never = new Promise(() => undefined);
    return Object.assign(never, { [Symbol.asyncIterator]: () => ({ next: () => never }) });
  };
  return { value: new Proxy({}, { get: () => wait }) as never, waiting: () => waiting };
}

test('whatever an operation waits for, it is answered with invalid_key when its key is gone', limit, async () => {
  const [engine, admin, tickets, jobs, webhooks] = [silent(), silent(), silent(), silent(), silent()];
  const parts = {
    engine: engine.value,
    admin: admin.value,
    tickets: tickets.value,
    jobs: jobs.value,
    webhooks: webhooks.value,
  };
  const { app, headers, revoke, log } = await revocable(parts);
  const atOnce = ['claudeHealth']; // needs nobody
  const cut = ['exportAudit']; // has begun to answer
  const answers = table.map(async (operation) => {
    const { id, method, path, body } = operation;
    assert.ok(!body || bodies[id], `${id} needs a body here`);
    const url = path.replaceAll(/\{\w+(\.\.\.)?\}/g, 'x');
    const request: InjectOptions = { method, url, headers, ...(body && { payload: bodies[id] ?? {} }) };
    const answer = await app.inject(request).catch(() => null);
    return [id, answer?.statusCode ?? 'cut', answer?.json<{ code?: string }>().code] as const;
  });
  const waiting = () => [engine, admin, tickets, jobs, webhooks].reduce((sum, part) => sum + part.waiting(), 0);
  await eventually(() => waiting() === table.length - atOnce.length);
  await revoke();
  for (const [id, status, code] of await Promise.all(answers)) {
    if (atOnce.includes(id)) assert.equal(status, 200, id);
    else if (cut.includes(id)) assert.equal(status, 'cut', id);
    else assert.deepEqual([status, code], [401, 'invalid_key'], id);
  }
  assert.ok(
    log.every(({ level, msg }) => Number(level) < 40 || msg === 'stream closed prematurely'),
    JSON.stringify(log),
  );
  await app.close();
});

const streams = [
  { id: 'stream', url: '/api/claude/stream', body: bodies['stream'] },
  { id: 'startConversation', url: `${conversation}/start`, body: bodies['startConversation'] },
  { id: 'continueConversation', url: `${conversation}/x/continue`, body: bodies['continueConversation'] },
  { id: 'conversationEvents', url: `${conversation}/x/events`, body: undefined },
  { id: 'jobEvents', url: '/api/claude/jobs/x/events', body: undefined },
];

async function* following({ signal }: Reading) {
  yield textItem(1, 'hello');
  await aborted(signal);
}

test('every stream of events ends with an event that says so, without the closing line', limit, async () => {
  assert.deepEqual(
    streams.map(({ id }) => id),
    table
      .filter(({ alsoStreams, response }) => alsoStreams || response.type === 'text/event-stream')
      .map(({ id }) => id),
  );
  const { app, engine, jobs, headers, revoke, log } = await revocable();
  const port = await listen(app);
  engine.play = waitingPlay;
  engine.reading = following;
  let ofJobs = 0;
  async function* ofJob(signal: AbortSignal) {
    const { cursor, event } = textItem(1, 'hello');
    yield { cursor: `1.${formatCursor(cursor)}`, event };
    ofJobs += 1;
    await aborted(signal);
  }
  jobs.events = async (_principal, _id, { signal }) => ofJob(signal);
  const answers = streams.map(async ({ url, body }) => {
    const answer = await fetch(`http://127.0.0.1:${port}${url}`, {
      method: body ? 'POST' : 'GET',
      headers: { ...headers, accept: 'text/event-stream', 'content-type': 'application/json' },
      ...(body && { body: JSON.stringify(body) }),
    });
    assert.equal(answer.status, 200);
    return answer.text();
  });
  await eventually(() => engine.taken + ofJobs === streams.length);
  await revoke();
  for (const text of await Promise.all(answers)) {
    const frames = text.split('\n\n').filter((frame) => frame.includes('data: '));
    assert.equal(frames.length, 2, text);
    assert.doesNotMatch(text, /DONE/);
    const last = streamEvent.parse(JSON.parse(frames[1]?.replace(/^data: /, '') ?? ''));
    assert.deepEqual([last.error, last.is_complete], [errorCatalogue.invalid_key.detail, true]);
  }
  await eventually(() => app.appState.runs.size + app.appState.readers.size === 0);
  assert.equal(engine.calls[0]?.context.signal.aborted, true, 'a run of one request stops');
  assert.equal(engine.interrupted.signal.aborted, false, 'the turns of conversations are for the engine to stop');
  engine.interrupted.abort();
  await eventually(() => engine.open === 0);
  const lines = log.filter(({ msg }) => msg === 'request');
  assert.deepEqual(
    lines.map(({ status, code, complete }) => [status, code, complete]),
    streams.map(() => [200, 'invalid_key', true]),
  );
  await app.close();
});

test('a query that is waited for is stopped and answered with invalid_key', limit, async () => {
  const { app, engine, headers, revoke } = await revocable();
  engine.play = waitingPlay;
  const answer = app.inject({ method: 'POST', url: '/api/claude/query', headers, payload: { prompt: 'x' } });
  await eventually(() => engine.calls.length === 1);
  await revoke();
  const { statusCode, headers: given } = await answer;
  assert.deepEqual([statusCode, given['www-authenticate']], [401, 'Bearer']);
  await eventually(() => engine.calls[0]?.context.signal.aborted === true && app.appState.runs.size === 0);
  await app.close();
});

test('a download is cut, and what it read from is closed', limit, async () => {
  const { app, engine, admin, headers, revoke } = await revocable();
  const port = await listen(app);
  const opened: PassThrough[] = [];
  engine.workspace = {
    'a.txt': () => {
      const content = new PassThrough();
      content.write('some');
      opened.push(content);
      return { size: 1000, content };
    },
  };
  let pages = 0;
  const line = {
    seq: 1,
    at: 0,
    time: '',
    tenant: '',
    actor: '',
    action: '',
    ref: null,
    subject: null,
    details: {},
    hash: '',
  };
  admin.exportAudit = async function* exportAudit() {
    for (;;) {
      yield [line];
      pages += 1;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  const paths = [`${conversation}/x/files/a.txt`, `${conversation}/x/files.zip`, '/api/admin/audit.jsonl'];
  const answers = paths.map((path) =>
    exchange(port, `GET ${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${headers.authorization}\r\n\r\n`),
  );
  await eventually(() => opened.length === 2 && pages > 2);
  await revoke();
  for (const answer of await Promise.all(answers)) {
    assert.match(answer, /^HTTP\/1\.1 200 /);
    assert.doesNotMatch(answer, /\r\n0\r\n\r\n$/, 'it is not whole');
  }
  await eventually(() => opened.every(({ destroyed }) => destroyed));
  const written = pages;
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.ok(pages <= written + 1, 'nothing is read any more');
  await app.close();
});

test('a reader that takes nothing is cut', limit, async () => {
  const { app, engine, headers, revoke } = await revocable();
  const port = await listen(app);
  engine.reading = async function* endless({ signal }) {
    for (let seq = 1; !signal.aborted; seq += 1) {
      yield textItem(seq, 'x'.repeat(20_000));
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined).pause();
  socket.write(
    `GET ${conversation}/x/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${headers.authorization}\r\n\r\n`,
  );
  let seen = -1;
  while (seen !== engine.taken || seen === 0) {
    seen = engine.taken;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  await revoke();
  await eventually(() => engine.open === 0 && app.appState.readers.size === 0);
  socket.destroy();
  await app.close();
});

test('a key that is gone while the body arrives starts nothing', limit, async () => {
  const { app, engine, stored, headers, revoke, log } = await revocable();
  const port = await listen(app);
  const body = JSON.stringify({ prompt: 'x' });
  const socket = connect(port, '127.0.0.1');
  socket.write(
    `POST /api/claude/query HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: ${headers.authorization}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n{`,
  );
  await eventually(() => stored.looks > 0);
  await revoke();
  const from = stored.looks;
  await eventually(() => stored.looks > from);
  await new Promise((resolve) => setTimeout(resolve, 700)); // what has begun to answer would be cut by now
  socket.write(body.slice(1));
  let answer = '';
  for await (const chunk of socket.setEncoding('utf8')) answer += chunk;
  assert.match(answer, /^HTTP\/1\.1 401 [^]*"code":"invalid_key"/);
  assert.equal(engine.calls.length, 0);
  assert.ok(log.every(({ level }) => Number(level) < 40));
  await app.close();
});

test('a short request asks the store once, and nothing is watched after an answer', limit, async () => {
  const { app, stored, headers } = await revocable();
  const port = await listen(app);
  assert.equal((await app.inject({ url: '/api/claude/models', headers })).statusCode, 200);
  assert.equal(stored.asked, 1);
  const head = `GET /api/claude/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${headers.authorization}\r\n\r\n`;
  for (let count = 0; count < 20; count += 1) {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write(head, () => socket.resetAndDestroy());
  }
  await eventually(() => stored.asked > 1);
  await new Promise((resolve) => setTimeout(resolve, 600));
  const { asked } = stored;
  await new Promise((resolve) => setTimeout(resolve, 600));
  assert.equal(stored.asked, asked);
  await app.close();
});
