import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { InjectOptions } from 'fastify';
import { allowedOrigins } from './headers.ts';
import { bearer, exchange, listen, testApp } from './testing.ts';

const page = 'http://localhost:3000';
const host = 'localhost';
const query = { method: 'POST', url: '/api/claude/query', headers: { host, ...bearer('user') } } as const;

/** One request for each way an answer can come to be. */
const answers: readonly [number, InjectOptions][] = [
  [200, { url: '/health', headers: { host } }],
  [200, { url: '/docs', headers: { host } }],
  [200, { ...query, payload: { prompt: 'x' } }],
  [400, { ...query, payload: '{', headers: { ...query.headers, 'content-type': 'application/json' } }],
  [400, { url: '/%ff', headers: { host } }],
  [401, { url: '/api/claude/models', headers: { host } }],
  [403, { ...query, headers: { host, ...bearer('viewer') }, payload: { prompt: 'x' } }],
  [404, { url: '/nothing', headers: { host } }],
  [405, { method: 'DELETE', url: '/health', headers: { host } }],
  [413, { ...query, payload: { prompt: 'x'.repeat(1_000_001) } }],
  [415, { ...query, payload: 'x', headers: { ...query.headers, 'content-type': 'text/plain' } }],
  [421, { url: '/', headers: { host: 'evil.test' } }],
  [422, { ...query, payload: {} }],
];

test('every answer, errors included, has a request id, security headers and the CORS headers of an allowed page', async () => {
  const { app, engine } = await testApp();
  for (const [status, request] of answers) {
    const { headers, statusCode } = await app.inject({ ...request, headers: { ...request.headers, origin: page } });
    assert.equal(statusCode, status);
    assert.match(String(headers['x-request-id']), /^req-[0-9a-f]{32}$/);
    assert.match(String(headers['content-security-policy']), /default-src 'none'/);
    assert.equal(headers['x-content-type-options'], 'nosniff');
    assert.equal(headers['access-control-allow-origin'], page, String(status));
    assert.equal(headers['access-control-allow-credentials'], 'true');
    assert.match(String(headers.vary), /Origin/);
  }
  engine.refusal = new Error('boom');
  const failed = await app.inject({ ...query, payload: { prompt: 'x' }, headers: { ...query.headers, origin: page } });
  assert.equal(failed.statusCode, 500);
  assert.equal(failed.headers['access-control-allow-origin'], page);
  await app.close();
});

test('an answer to a page that is not allowed has no CORS header, and its request to the API is refused', async () => {
  const { app, engine } = await testApp();
  for (const origin of [
    'http://evil.test',
    'null',
    'http://localhost:3000.evil.test',
    'https://localhost:3000',
    'HTTP://LOCALHOST:3000',
  ]) {
    for (const [, request] of answers) {
      const { headers } = await app.inject({ ...request, headers: { ...request.headers, origin } });
      assert.equal(headers['access-control-allow-origin'], undefined);
      assert.equal(headers.vary?.includes('Origin'), true);
    }
    const asked = engine.calls.length;
    const refused = await app.inject({ ...query, payload: { prompt: 'x' }, headers: { ...query.headers, origin } });
    assert.equal(refused.statusCode, 403);
    assert.equal(refused.json<{ code: string }>().code, 'origin_not_allowed');
    assert.equal(engine.calls.length, asked);
  }
  assert.equal(engine.calls.length, 0);
  await app.close();
});

test("the service's own pages may use the API without being on the list", async () => {
  const { app } = await testApp();
  const own = { ...bearer('user'), host: 'api.example.com', origin: 'https://api.example.com' };
  assert.equal((await app.inject({ url: '/api/claude/models', headers: own })).statusCode, 200);
  const other = { ...own, origin: 'https://api.example.com:8443' };
  assert.equal((await app.inject({ url: '/api/claude/models', headers: other })).statusCode, 403);
  await app.close();
});

test('a preflight of an allowed page is answered without a key, with the methods of the address', async () => {
  const { app } = await testApp();
  const ask = (url: string, origin: string) =>
    app.inject({
      method: 'OPTIONS',
      url,
      headers: {
        host,
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization,x-own',
      },
    });
  const { statusCode, headers, body } = await ask('/api/claude/query', page);
  assert.equal(statusCode, 204);
  assert.equal(body, '');
  assert.equal(headers['access-control-allow-origin'], page);
  assert.equal(headers['access-control-allow-methods'], 'POST');
  assert.equal(headers['access-control-allow-headers'], 'authorization,x-own');
  assert.equal(headers.vary, 'Origin, Access-Control-Request-Headers');
  assert.equal((await ask('/api/claude/models', page)).headers['access-control-allow-methods'], 'GET, HEAD');
  assert.equal((await ask('/nothing', page)).statusCode, 404);
  const foreign = await ask('/api/claude/query', 'http://evil.test');
  assert.equal(foreign.statusCode, 403);
  assert.equal(foreign.headers['access-control-allow-origin'], undefined);
  assert.equal(foreign.headers['access-control-allow-methods'], undefined);
  await app.close();
});

test('what is not a plain origin cannot be allowed', () => {
  for (const text of [
    '*',
    'null',
    'localhost:3000',
    'https://a.example/path',
    'https://a.example?x',
    '',
    'https://u@a.example',
  ]) {
    assert.throws(() => allowedOrigins([text]), /is not an origin/, text);
  }
  assert.deepEqual([...allowedOrigins(['https://A.example', 'http://localhost:3000/'])], ['https://a.example', page]);
});

test('a sane request id is kept and any other replaced', async () => {
  const { app } = await testApp();
  const idFor = async (given: string) =>
    (await app.inject({ url: '/health', headers: { 'x-request-id': given } })).headers['x-request-id'];
  assert.equal(await idFor('abc-DEF_1.2'), 'abc-DEF_1.2');
  assert.equal(await idFor('a'.repeat(100)), 'a'.repeat(100));
  for (const id of ['', 'a'.repeat(101), 'a b', 'a"b', 'a<b', 'é']) assert.match(String(await idFor(id)), /^req-/);
  await app.close();
});

test('what never becomes a request is answered with the same headers', async () => {
  const { app } = await testApp();
  const port = await listen(app);
  const answer = await exchange(port, 'GARBAGE\r\n\r\n');
  assert.match(answer, /^HTTP\/1\.1 400 Bad Request\r\n/);
  assert.match(answer, /x-request-id: req-[0-9a-f]{32}\r\n/);
  assert.match(answer, /content-security-policy: default-src 'none'/);
  const [, length = ''] = /content-length: (\d+)/.exec(answer) ?? [];
  const body = answer.slice(answer.indexOf('\r\n\r\n') + 4);
  assert.equal(body.length, Number(length));
  assert.equal((JSON.parse(body) as { code: string }).code, 'bad_request');
  await app.close();
});
