import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorCatalogue, errorCodes } from '@sallyport/protocol';
import { SallyportError } from '../engine/errors.ts';
import { failingPlay } from './engine-support.ts';
import { bearer, testApp } from './testing.ts';

const query = { method: 'POST', url: '/api/claude/query', headers: bearer('user'), payload: { prompt: 'x' } } as const;

test('every error of the catalogue is answered with its status, code, sentence and request id', async () => {
  const { app, engine } = await testApp();
  for (const code of errorCodes) {
    engine.refusal = new SallyportError(code, { cause: new Error('canary'), retryAfter: 2.2 });
    const answer = await app.inject(query);
    const { status, retryable, detail } = errorCatalogue[code];
    assert.equal(answer.statusCode, status);
    assert.deepEqual(answer.json(), { detail, code, request_id: answer.headers['x-request-id'], retryable });
    assert.equal(answer.headers['retry-after'], '3');
    assert.doesNotMatch(JSON.stringify(answer.headers), /canary/);
  }
  await app.close();
});

test('whoever is refused for a while is told when to come again', async () => {
  const { app, engine } = await testApp();
  for (const code of errorCodes) {
    const { status, retryable } = errorCatalogue[code];
    if (status !== 503 || !retryable) continue;
    engine.refusal = new SallyportError(code);
    const answer = await app.inject(query);
    assert.ok(Number(answer.headers['retry-after']) > 0, code);
  }
  await app.close();
});

test('a turn that ends with an error is answered with it, not with a result', async () => {
  const { app, engine } = await testApp();
  engine.play = failingPlay(new SallyportError('upstream_rate_limited', { retryAfter: 7 }));
  const answer = await app.inject(query);
  assert.equal(answer.statusCode, 503);
  assert.equal(answer.headers['retry-after'], '7');
  assert.equal(answer.json<{ code: string }>().code, 'upstream_rate_limited');
  await app.close();
});

const secretPath = '/data/secret/canary';

test('what nobody named is internal; only the log sees it, with the request id', async () => {
  const { app, engine, log } = await testApp();
  const thrown: unknown[] = [
    new Error(`ENOENT: ${secretPath}`),
    new TypeError(secretPath),
    Object.assign(new Error(secretPath), { statusCode: 404, code: 'ENOENT' }),
    Object.assign(new Error(secretPath), { statusCode: 200, status: 401, headers: { 'x-canary': secretPath } }),
    new AggregateError([new Error(secretPath)], secretPath),
    secretPath,
    { message: secretPath, statusCode: 400 },
    42,
  ];
  for (const refusal of thrown) {
    engine.refusal = refusal;
    log.length = 0;
    const answer = await app.inject(query);
    assert.equal(answer.statusCode, 500);
    assert.equal(answer.json<{ code: string }>().code, 'internal');
    assert.doesNotMatch(JSON.stringify([answer.headers, answer.body]), /canary|stack|node_modules|\.ts\b/);
    const line = log.find(({ msg }) => msg === 'request failed');
    assert.equal(line?.['request_id'], answer.headers['x-request-id']);
    assert.equal(line?.['level'], 50);
  }
  engine.refusal = new Error(secretPath);
  log.length = 0;
  await app.inject(query);
  assert.match(JSON.stringify(log), /canary/);
  await app.close();
});

test('each request is one line of the log, with its key and code and without its query', async () => {
  const { app, log } = await testApp();
  log.length = 0;
  const answer = await app.inject({ ...query, url: '/api/claude/query?ticket=canary', payload: {} });
  const [line, ...more] = log.filter(({ msg }) => msg === 'request');
  assert.equal(more.length, 0);
  assert.equal(typeof line?.['duration_ms'], 'number');
  assert.equal(line?.['request_id'], answer.headers['x-request-id']);
  assert.partialDeepStrictEqual(line, {
    method: 'POST',
    route: '/api/claude/query',
    status: 422,
    code: 'validation_failed',
    complete: true,
    client: '127.0.0.1',
    tenant: 'default',
    by: 'user',
  });
  assert.doesNotMatch(JSON.stringify(log), /canary|secret-of/);
  await app.close();
});

test('a malformed or endless address is a bad request, quoted nowhere', async () => {
  const { app, log } = await testApp();
  for (const url of ['/%ff', '/api/claude/%', '/%c0%80canary']) {
    const answer = await app.inject({ url });
    assert.equal(answer.statusCode, 400, url);
    assert.equal(answer.json<{ code: string }>().code, 'bad_request');
    assert.doesNotMatch(answer.body, /canary/);
  }
  assert.equal((await app.inject({ url: `/${'a'.repeat(5000)}` })).statusCode, 404);
  assert.doesNotMatch(JSON.stringify(log), /canary/);
  await app.close();
});

test('an unknown address is not_found and a known one with another method says which it takes', async () => {
  const { app, engine } = await testApp();
  for (const url of [
    '/nothing',
    '/api',
    '/api/claude',
    '/api/claude/query/',
    '/docs/static/nothing.js',
    '/docs/nothing',
    '//[',
  ]) {
    const answer = await app.inject({ url, headers: bearer('user') });
    assert.equal(answer.statusCode, 404, url);
    assert.equal(answer.json<{ code: string }>().code, 'not_found');
  }
  const allow = async (method: 'GET' | 'PUT' | 'DELETE' | 'OPTIONS', url: string) => {
    const answer = await app.inject({ method, url });
    assert.equal(answer.statusCode, 405, url);
    assert.equal(answer.json<{ code: string }>().code, 'method_not_allowed');
    return answer.headers.allow;
  };
  assert.equal(await allow('GET', '/api/claude/query'), 'POST');
  assert.equal(await allow('PUT', '/api/claude/stream?x=1'), 'POST');
  assert.equal(await allow('DELETE', '/health'), 'GET, HEAD');
  assert.equal(await allow('OPTIONS', '/openapi.json'), 'GET, HEAD');
  const posted = await app.inject({
    method: 'POST',
    url: '/nothing',
    payload: '{broken',
    headers: { 'content-type': 'x' },
  });
  assert.equal(posted.statusCode, 404, 'the body of an unknown address is not looked at');
  assert.equal(engine.calls.length, 0);
  await app.close();
});
