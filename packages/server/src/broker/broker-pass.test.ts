import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { finalMarker } from './failures.ts';
import {
  answerError,
  answerStream,
  apiKey,
  begin,
  grant,
  post,
  requestBody,
  startBroker,
  startUpstream,
  streamOf,
  until,
} from './test-support.ts';

const within = { timeout: 20_000 };

test('the upstream gets the real key and nothing of the client but what it needs', within, async (t) => {
  const upstream = await startUpstream(t, (response) => answerStream(response));
  const { broker, lines } = await startBroker(t, `${upstream.url}/gateway/`);
  const pass = broker.issue();
  pass.bind(grant());
  const headers = {
    'anthropic-beta': 'some-beta',
    'anthropic-version': '2023-06-01',
    'user-agent': 'claude-cli/2',
    'x-claude-code-session-id': 'session',
    authorization: `Bearer ${pass.token}`,
    cookie: 'a=b',
    'accept-encoding': 'gzip, br',
    'x-forwarded-for': '10.0.0.1',
    'proxy-authorization': 'Basic x',
    te: 'trailers',
    host: 'elsewhere.example',
  };
  const body = requestBody({ metadata: { user_id: 'ä' } });
  const answer = await post(broker, { token: pass.token, headers, body });
  assert.equal(answer.status, 200);
  const [seen] = upstream.requests;
  assert.equal(seen?.url, '/gateway/v1/messages?beta=true');
  assert.equal(seen.body, body);
  const { host, connection, 'content-length': length, ...rest } = seen.headers;
  assert.equal(host, new URL(upstream.url).host);
  assert.equal(connection, 'keep-alive');
  assert.equal(Number(length), Buffer.byteLength(body));
  assert.deepEqual(rest, {
    'accept-encoding': 'identity',
    'anthropic-beta': 'some-beta',
    'anthropic-version': '2023-06-01',
    'content-type': 'application/json',
    'user-agent': 'claude-cli/2',
    'x-api-key': apiKey,
    'x-claude-code-session-id': 'session',
  });
  assert.equal(JSON.stringify([answer.headers, answer.body.toString(), lines]).includes(apiKey), false);
  assert.equal(lines.join('\n').includes(pass.token), false);
});

test('the process gets no header of the upstream but type, length and request id', within, async (t) => {
  const upstream = await startUpstream(t, (response) => {
    response.writeHead(200, {
      'content-type': 'text/event-stream',
      'request-id': 'req_1',
      'set-cookie': 'a=b',
      'anthropic-organization-id': 'org',
    });
    response.end(streamOf('Hi'));
  });
  const { broker } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  pass.bind(grant());
  const { headers } = await post(broker, { token: pass.token });
  const { date: _date, ...rest } = headers;
  assert.deepEqual(rest, {
    'cache-control': 'no-store',
    connection: 'close',
    'content-type': 'text/event-stream',
    'request-id': 'req_1',
    'transfer-encoding': 'chunked',
  });
});

for (const [method, path] of [
  ['GET', '/v1/messages'],
  ['PUT', '/v1/messages'],
  ['POST', '/v1/models'],
  ['GET', '/v1/models'],
  ['POST', '/v1/messages/batches'],
  ['POST', '/v1/messages/'],
  ['POST', '//v1/messages'],
  ['POST', '/v1/messages/../complete'],
  ['POST', '/v1/messages?x=/../y'],
  ['POST', '/v1/messages?a?b'],
  ['POST', 'http://elsewhere.example/v1/messages'],
  ['POST', '/'],
] as const) {
  test(`${method} ${path} is not passed`, within, async (t) => {
    const upstream = await startUpstream(t, (response) => answerStream(response));
    const { broker } = await startBroker(t, upstream.url);
    const pass = broker.issue();
    pass.bind(grant());
    const { status, body } = await post(broker, { token: pass.token, method, path });
    assert.equal(status, 404);
    assert.deepEqual(JSON.parse(body.toString()), {
      type: 'error',
      error: { type: 'not_found_error', message: 'Not found' },
    });
    assert.equal(upstream.requests.length, 0);
  });
}

test('tokens are counted without being metered', within, async (t) => {
  const upstream = await startUpstream(t, (response) => {
    response.writeHead(200, { 'content-type': 'application/json' }).end('{"input_tokens":7}');
  });
  const { broker, records } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  const turn = pass.bind(grant({ singleToolCalls: true, budgetUsd: 0 }));
  const body = requestBody({ tools: [{ name: 'Read' }] });
  const answer = await post(broker, { token: pass.token, path: '/v1/messages/count_tokens?beta=true', body });
  assert.equal(answer.body.toString(), '{"input_tokens":7}');
  assert.equal(upstream.requests[0]?.url, '/v1/messages/count_tokens?beta=true');
  assert.equal(upstream.requests[0].body, body);
  await turn.settle();
  assert.deepEqual([records, turn.calls, turn.failure()], [[], [], null]);
});

async function assertRefused(t: TestContext, headers: (token: string) => Record<string, string>, use = 'bound') {
  const upstream = await startUpstream(t, (response) => answerStream(response));
  const { broker, lines } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  const turn = use === 'unbound' ? null : pass.bind(grant());
  if (use === 'revoked') pass.revoke();
  if (use === 'settled') await turn?.settle();
  const { status, body } = await post(broker, { token: '', headers: headers(pass.token) });
  assert.equal(status, 400);
  assert.ok(body.toString().includes(finalMarker));
  assert.equal(upstream.requests.length, 0);
  assert.equal(turn?.failure() ?? null, null);
  assert.equal(lines.join('\n').includes(pass.token), false);
}

test('no token, nothing passes', within, (t) => assertRefused(t, () => ({})));
test('an unknown token passes nothing', within, (t) => assertRefused(t, (token) => ({ 'x-api-key': `${token}x` })));
test('the real key is no token', within, (t) => assertRefused(t, () => ({ 'x-api-key': apiKey })));
test('a revoked token passes nothing', within, (t) => assertRefused(t, (token) => ({ 'x-api-key': token }), 'revoked'));
test('a token without a turn passes nothing', within, (t) =>
  assertRefused(t, (token) => ({ 'x-api-key': token }), 'unbound'),
);
test('a token whose turn is settled passes nothing', within, (t) =>
  assertRefused(t, (token) => ({ authorization: `Bearer ${token}` }), 'settled'),
);

test('a token may come as a bearer', within, async (t) => {
  const upstream = await startUpstream(t, (response) => answerStream(response));
  const { broker } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  pass.bind(grant());
  const { status } = await post(broker, { token: '', headers: { authorization: `Bearer ${pass.token}` } });
  assert.equal(status, 200);
});

test('a call for another model is refused, and the turn knows why', within, async (t) => {
  const upstream = await startUpstream(t, (response) => answerStream(response));
  const { broker, lines } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  const turn = pass.bind(grant());
  for (const path of ['/v1/messages', '/v1/messages/count_tokens']) {
    const { status, body } = await post(broker, {
      token: pass.token,
      path,
      body: requestBody({ model: 'claude-opus-4-5' }),
    });
    assert.equal(status, 400);
    assert.ok(body.toString().includes(finalMarker));
  }
  assert.equal(upstream.requests.length, 0);
  assert.equal(turn.failure()?.code, 'upstream_rejected');
  assert.match(turn.failure()?.cause ?? '', /claude-opus-4-5/);
  assert.match(lines.join('\n'), /claude-opus-4-5/);
});

test('a turn with single tool calls asks the upstream for them', within, async (t) => {
  const upstream = await startUpstream(t, (response) => answerStream(response));
  const { broker } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  pass.bind(grant({ singleToolCalls: true }));
  await post(broker, { token: pass.token, body: requestBody({ tools: [{ name: 'Read' }] }) });
  const sent = JSON.parse(upstream.requests[0]?.body ?? '') as Record<string, unknown>;
  assert.deepEqual(sent['tool_choice'], { type: 'auto', disable_parallel_tool_use: true });
});

test('a body that is too large is refused, and the process sees that', within, async (t) => {
  const upstream = await startUpstream(t, (response) => answerStream(response));
  const { broker } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  const turn = pass.bind(grant());
  const { status, body } = await post(broker, { token: pass.token, body: Buffer.alloc(40 * 1024 * 1024 + 1, 'a') });
  assert.equal(status, 400);
  assert.ok(body.toString().includes(finalMarker));
  assert.equal(turn.failure()?.code, 'prompt_too_long');
  assert.equal(upstream.requests.length, 0);
});

test('a new turn of a process takes over, and its calls are its own', within, async (t) => {
  const upstream = await startUpstream(t, (response) => answerStream(response));
  const { broker } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  const first = pass.bind(grant());
  await post(broker, { token: pass.token });
  await first.settle();
  const second = pass.bind(grant({ ref: { tenant: 'acme', conversation: 'conv-1', turn: 'turn-2', epoch: 2 } }));
  await post(broker, { token: pass.token });
  await post(broker, { token: pass.token });
  assert.deepEqual([first.calls.length, second.calls.length], [1, 2]);
  assert.equal(second.calls[0]?.ref.turn, 'turn-2');
});

test('a process may have only so many calls under way', within, async (t) => {
  const upstream = await startUpstream(t, () => {});
  const { broker } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  pass.bind(grant());
  const calls = Array.from({ length: 32 }, () => begin(broker, { token: pass.token }));
  for (const call of calls) call.catch(() => {});
  await until(() => upstream.requests.length === 32);
  assert.equal((await post(broker, { token: pass.token })).status, 400);
  assert.equal(upstream.requests.length, 32);
});

test('a refusal of the upstream that names the key does not bring it out', within, async (t) => {
  const upstream = await startUpstream(t, (response) => answerError(response, 401, `invalid key ${apiKey}`));
  const { broker, lines } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  const turn = pass.bind(grant());
  const { body } = await post(broker, { token: pass.token });
  assert.equal(body.toString().includes(apiKey), false);
  assert.equal(lines.join('\n').includes(apiKey), false);
  assert.match(turn.failure()?.cause ?? '', /invalid key \[key\]/);
});
