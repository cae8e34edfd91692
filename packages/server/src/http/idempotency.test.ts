import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultBounds, operations, type Operation } from '@sallyport/protocol';
import type { InjectOptions } from 'fastify';
import { SallyportError } from '../engine/errors.ts';
import type { RunContext } from '../engine/engine.ts';
import { failingPlay, textItem, waitingPlay } from './engine-support.ts';
import { bearer, eventually, exchange, listen, queryBody, secretOf, testApp } from './testing.ts';

const limit = { timeout: 20_000 };
const base = '/api/claude';
const requests: readonly InjectOptions[] = [
  { url: `${base}/query`, payload: { prompt: 'x' } },
  { url: `${base}/stream`, payload: { prompt: 'x' } },
  { url: `${base}/conversation/start`, payload: { prompt: 'x' } },
  { url: `${base}/conversation/conv-1/continue`, payload: { session_id: 'conv-1', message: 'x' } },
];
const post = (request: InjectOptions, headers: Record<string, string>): InjectOptions => ({
  ...request,
  method: 'POST',
  headers: { ...bearer('user'), ...headers },
});

type App = Awaited<ReturnType<typeof testApp>>;

/** The keys that the engine was given, in order. */
const keysGiven = ({ engine }: App): unknown[] => [
  ...engine.calls.map(({ context }) => context.idempotencyKey),
  ...engine.asked.map(({ rest }) => (rest.at(-1) as RunContext).idempotencyKey),
];

test('the routes that start work take an Idempotency-Key', () => {
  const table = Object.values<Operation>(operations(defaultBounds));
  assert.deepEqual(
    table.filter(({ startsWork }) => startsWork).map(({ id }) => id),
    ['query', 'stream', 'startConversation', 'continueConversation', 'createJob'],
  );
});

test('the key goes into the engine as it was sent, and null where there is none', async () => {
  for (const key of ['k', '!~"\\,;=', 'x'.repeat(255), undefined]) {
    const made = await testApp();
    for (const request of requests) {
      const answer = await made.app.inject(post(request, key === undefined ? {} : { 'idempotency-key': key }));
      assert.equal(answer.statusCode, 200, answer.body);
      assert.equal(answer.headers['idempotency-replayed'], undefined);
    }
    assert.deepEqual(keysGiven(made), Array(4).fill(key ?? null));
    await made.app.close();
  }
});

test('a key that is none is a 422 that names the header, and nothing runs', async () => {
  const made = await testApp();
  for (const request of requests) {
    for (const key of ['', 'a b', 'x'.repeat(256), 'a\tb', 'é']) {
      const answer = await made.app.inject(post(request, { 'idempotency-key': key }));
      assert.equal(answer.statusCode, 422, key);
      const { detail } = answer.json<{ detail: { loc: string[]; type: string }[] }>();
      assert.deepEqual(
        detail.map(({ loc, type }) => [loc, type]),
        [[['header', 'Idempotency-Key'], 'value_error']],
      );
    }
  }
  assert.deepEqual(keysGiven(made), []);
  await made.app.close();
});

test('several keys are a bad request, and nothing runs', limit, async () => {
  const made = await testApp();
  const port = await listen(made.app);
  const head = `POST ${base}/query HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer ${secretOf('user')}\r\nContent-Type: application/json\r\nContent-Length: ${queryBody.length}\r\n`;
  const one = 'Idempotency-Key: a\r\n';
  assert.match(await exchange(port, `${head}${one}${one}\r\n${queryBody}`), /^HTTP\/1\.1 400 [^]*"code":"bad_request"/);
  assert.deepEqual(keysGiven(made), []);
  assert.match(await exchange(port, `${head}${one}\r\n${queryBody}`), /^HTTP\/1\.1 200 /);
  await made.app.close();
});

test('routes that start nothing do not look at the header', async () => {
  const { app } = await testApp();
  const headers = { ...bearer('user'), 'idempotency-key': 'not a key' };
  const forked = await app.inject({
    method: 'POST',
    url: `${base}/conversation/conv-1/fork`,
    headers,
    payload: {},
  });
  assert.equal(forked.statusCode, 200);
  assert.equal((await app.inject({ url: `${base}/models`, headers })).statusCode, 200);
  await app.close();
});

test('the answer to a repeated request says so, as JSON, as a stream and as an error', async () => {
  const { app, engine } = await testApp();
  engine.replays = true;
  const accepts = { json: 'application/json', events: 'text/event-stream' };
  for (const request of requests) {
    for (const accept of Object.values(accepts)) {
      const answer = await app.inject(post(request, { 'idempotency-key': 'k', accept }));
      assert.equal(answer.statusCode, 200);
      assert.equal(answer.headers['idempotency-replayed'], 'true');
      if (answer.headers['content-type'] === 'text/event-stream') {
        assert.match(answer.body, /^id: 1\.5\ndata: \{[^]*data: \[DONE\]\n\n$/);
      }
    }
  }
  engine.play = failingPlay(new SallyportError('agent_crashed'));
  for (const request of requests) {
    for (const accept of Object.values(accepts)) {
      const answer = await app.inject(post(request, { 'idempotency-key': 'k', accept }));
      assert.equal(answer.statusCode, 502);
      assert.equal(answer.json<{ code: string }>().code, 'agent_crashed');
      assert.equal(answer.headers['idempotency-replayed'], 'true');
    }
  }
  await app.close();
});

test('what the engine refuses a key with is answered with its own status', async () => {
  const { app, engine } = await testApp();
  engine.refusal = new SallyportError('idempotency_in_progress', { retryAfter: 1 });
  const busy = await app.inject(post(requests[0] ?? {}, { 'idempotency-key': 'k' }));
  assert.deepEqual([busy.statusCode, busy.headers['retry-after']], [409, '1']);
  engine.refusal = new SallyportError('idempotency_key_reused');
  const reused = await app.inject(post(requests[0] ?? {}, { 'idempotency-key': 'k' }));
  assert.deepEqual([reused.statusCode, reused.json<{ code: string }>().code], [422, 'idempotency_key_reused']);
  await app.close();
});

test('a stream that breaks off on our side stops its run only when nobody can ask for it again', async () => {
  for (const key of [undefined, 'k']) {
    const { app, engine } = await testApp();
    engine.play = {
      async *items() {
        yield textItem(1, 'half');
        throw new Error('canary');
      },
      ended: waitingPlay.ended,
    };
    const { body } = await app.inject(post(requests[1] ?? {}, key === undefined ? {} : { 'idempotency-key': key }));
    assert.match(body, /"is_complete":true/);
    assert.doesNotMatch(body, /canary/);
    assert.equal(engine.calls[0]?.context.signal.aborted, key === undefined);
    assert.equal(/\[DONE\]/.test(body), key === undefined);
    await app.close();
  }
});

test('nobody interrupts the run of a client that left with a key', limit, async () => {
  for (const path of ['query', 'stream']) {
    const { app, engine, log } = await testApp();
    const port = await listen(app);
    const ended = Promise.withResolvers<Awaited<ReturnType<typeof waitingPlay.ended>>>();
    engine.play = { items: waitingPlay.items, ended: () => ended.promise };
    const leave = new AbortController();
    const answer = fetch(`http://127.0.0.1:${port}${base}/${path}`, {
      method: 'POST',
      headers: { ...bearer('user'), 'content-type': 'application/json', 'idempotency-key': 'k' },
      body: queryBody,
      signal: leave.signal,
    }).catch(() => null);
    await eventually(() => engine.calls.length === 1);
    if (path === 'stream') await answer;
    leave.abort();
    await eventually(() => engine.open === 0 && app.appState.runs.size === 0);
    ended.resolve(await failingPlay(new SallyportError('agent_crashed')).ended({} as RunContext));
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(engine.asked.length, 0);
    assert.equal(engine.interrupted.signal.aborted, false);
    assert.doesNotMatch(JSON.stringify(log), /request failed/);
    await app.close();
  }
});
