import assert from 'node:assert/strict';
import http from 'node:http';
import { createServer } from 'node:net';
import { test } from 'node:test';
import type { ErrorCode } from '@sallyport/protocol';
import {
  answerError,
  answerStream,
  assertFinal,
  begin,
  grant,
  post,
  readAnswer,
  requestBody,
  startBroker,
  startTurn,
  startUpstream,
  streamOf,
  until,
} from './test-support.ts';

const within = { timeout: 20_000 };

for (const status of [429, 500, 502, 503, 504, 529]) {
  test(`${status} twice and then an answer is one answer and two retries`, within, async (t) => {
    const run = await startTurn(t, (response, count) =>
      count < 3 ? answerError(response, status) : answerStream(response),
    );
    const answer = await run.call();
    assert.equal(answer.status, 200);
    assert.equal(answer.body.toString(), streamOf('Hi'));
    assert.deepEqual(
      run.retries.map(([attempt]) => attempt),
      [1, 2],
    );
    assert.equal(run.upstream.requests.length, 3);
    assert.equal(run.turn.failure(), null);
    assert.deepEqual(run.broker.health(), { ok: true, code: null });
    await run.turn.settle();
    assert.deepEqual(
      run.records.map((call) => [call.status, call.usage.output_tokens]),
      [
        [status, 0],
        [status, 0],
        [200, 20],
      ],
    );
  });
}

for (const [status, message, code, tries] of [
  [400, 'messages: too short', 'upstream_rejected', 1],
  [400, 'prompt is too long: 214035 tokens > 200000 maximum', 'prompt_too_long', 1],
  [400, 'input length and `max_tokens` exceed context limit: 1 + 2 > 2', 'prompt_too_long', 1],
  [400, 'Your credit balance is too low to access the API', 'upstream_refused_credentials', 1],
  [401, 'invalid x-api-key', 'upstream_refused_credentials', 1],
  [402, 'pay first', 'upstream_refused_credentials', 1],
  [403, 'not for you', 'upstream_refused_credentials', 1],
  [404, 'no such thing', 'upstream_model_not_found', 1],
  [413, 'much too large', 'prompt_too_long', 1],
  [422, 'quite odd', 'upstream_rejected', 1],
  [429, 'slow down', 'upstream_rate_limited', 3],
  [500, 'oops', 'upstream_error', 3],
  [502, 'oops', 'upstream_error', 3],
  [503, 'oops', 'upstream_error', 3],
  [504, 'oops', 'upstream_error', 3],
  [529, 'Overloaded', 'upstream_overloaded', 3],
  [302, 'elsewhere', 'upstream_error', 1],
  [520, 'quite odd', 'upstream_error', 1],
] as const satisfies [number, string, ErrorCode, number][]) {
  test(`${status} "${message}" is ${code} after ${tries} tries, and its words go nowhere`, within, async (t) => {
    const run = await startTurn(t, (response) => answerError(response, status, message));
    const answer = await run.call();
    assertFinal(answer);
    assert.equal(run.upstream.requests.length, tries);
    assert.equal(run.turn.failure()?.code, code);
    assert.ok(run.turn.failure()?.cause.includes(message));
    assert.equal(run.lines.join('\n').includes(message), false);
    const unhealthy = ['upstream_refused_credentials', 'upstream_error', 'upstream_overloaded'].includes(code);
    assert.deepEqual(run.broker.health(), { ok: !unhealthy, code: unhealthy ? code : null });
  });
}

test('a failure and bad health are over with the next good answer', within, async (t) => {
  const run = await startTurn(t, (response, count) =>
    count === 1 ? answerError(response, 401) : answerStream(response),
  );
  assertFinal(await run.call());
  assert.equal(run.turn.failure()?.code, 'upstream_refused_credentials');
  assert.equal((await run.call()).status, 200);
  assert.equal(run.turn.failure(), null);
  assert.deepEqual(run.broker.health(), { ok: true, code: null });
});

test('a wait the upstream asks for is kept', within, async (t) => {
  const run = await startTurn(t, (response, count) => {
    if (count === 1) answerError(response, 429, 'wait', { 'retry-after': '0.2' });
    else answerStream(response);
  });
  assert.equal((await run.call()).status, 200);
  const line = run.lines.find((text) => text.includes('repeated')) ?? '{}';
  assert.deepEqual((JSON.parse(line) as { delayMs?: number }).delayMs, 200);
});

for (const status of [429, 529]) {
  test(`a wait after ${status} that is too long is final at once, and its length is known`, within, async (t) => {
    const run = await startTurn(t, (response) => answerError(response, status, 'wait', { 'retry-after': '3600' }));
    assertFinal(await run.call());
    assert.equal(run.upstream.requests.length, 1);
    assert.deepEqual(run.retries, []);
    assert.equal(run.turn.failure()?.retryAfter, 3600);
  });
}

test('an upstream that refuses connections is tried three times', within, async (t) => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  const { broker, records } = await startBroker(t, `http://127.0.0.1:${port}`);
  const pass = broker.issue();
  const retries: string[] = [];
  const turn = pass.bind(grant({ onRetry: (_attempt, reason) => retries.push(reason) }));
  assertFinal(await post(broker, { token: pass.token }));
  assert.deepEqual(retries, ['upstream_error', 'upstream_error']);
  assert.match(turn.failure()?.cause ?? '', /ECONNREFUSED/);
  await turn.settle();
  assert.deepEqual(records, []);
});

test('an upstream that resets connections before an answer is tried again', within, async (t) => {
  const run = await startTurn(t, (response, count) => {
    if (count < 3) response.socket?.resetAndDestroy();
    else answerStream(response);
  });
  assert.equal((await run.call()).body.toString(), streamOf('Hi'));
  assert.equal(run.retries.length, 2);
});

test('an answer that is cut before its first byte is tried again', within, async (t) => {
  const run = await startTurn(t, (response, count) => {
    if (count > 1) return answerStream(response);
    response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
    setTimeout(() => response.destroy(), 20);
  });
  assert.equal((await run.call()).body.toString(), streamOf('Hi'));
  assert.deepEqual(run.retries, [[1, 'upstream_error']]);
});

test('a wait ends when the process leaves', within, async (t) => {
  const run = await startTurn(t, (response) => answerError(response, 529, '', { 'retry-after': '10' }));
  const request = http.request({ socketPath: run.broker.socketPath, path: '/v1/messages', method: 'POST' });
  request.setHeader('x-api-key', run.pass.token);
  request.on('error', () => {});
  request.end(requestBody());
  await until(() => run.retries.length === 1);
  request.destroy();
  await run.turn.settle();
  assert.equal(run.upstream.requests.length, 1);
  assert.equal(run.turn.failure(), null);
});

test('a wait ends when the pass is revoked', within, async (t) => {
  const run = await startTurn(t, (response) => answerError(response, 529, '', { 'retry-after': '10' }));
  const call = begin(run.broker, { token: run.pass.token });
  call.catch(() => {});
  await until(() => run.retries.length === 1);
  run.pass.revoke();
  await assert.rejects(call);
  await run.turn.settle();
  assert.equal(run.upstream.requests.length, 1);
});

test('a turn whose retry cannot be told gets a final failure', within, async (t) => {
  const upstream = await startUpstream(t, (response) => answerError(response, 500));
  const { broker } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  const onRetry = (): void => {
    throw new Error('no log');
  };
  const turn = pass.bind(grant({ onRetry }));
  assertFinal(await readAnswer(await begin(broker, { token: pass.token })));
  assert.equal(turn.failure()?.code, 'internal');
  assert.equal(upstream.requests.length, 1);
});
