import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bearer, exchange, listen, principalOf, roles, secretOf, testApp } from './testing.ts';

const models = '/api/claude/models';

test('a known key is its principal, whatever the case of the scheme', async () => {
  const { app, engine } = await testApp();
  for (const role of roles) {
    assert.equal((await app.inject({ url: models, headers: bearer(role) })).statusCode, 200);
  }
  const lower = { authorization: `bearer  ${secretOf('user')} ` };
  assert.equal((await app.inject({ url: models, headers: lower })).statusCode, 200);
  await app.inject({ method: 'POST', url: '/api/claude/query', headers: bearer('user'), payload: { prompt: 'x' } });
  assert.deepEqual(engine.calls[0]?.principal, principalOf('user'));
  await app.close();
});

test('a missing or malformed header is unauthenticated, an unknown key invalid, both 401 with the scheme to use', async () => {
  const { app, engine } = await testApp();
  const secret = secretOf('user');
  const malformed: (string | undefined)[] = [
    undefined,
    '',
    'Bearer',
    'Bearer ',
    secret,
    `Basic ${secret}`,
    `Bearer ${secret} x`,
    `Bearer\t${secret}`,
    `Bearer:${secret}`,
  ];
  const unknown: (string | undefined)[] = [
    'Bearer x',
    `Bearer ${secret}x`,
    `Bearer ${secret.slice(0, -1)}`,
    `Bearer ${secret.toUpperCase()}`,
    "Bearer '--",
  ];
  for (const [code, values] of [
    ['unauthenticated', malformed],
    ['invalid_key', unknown],
  ] as const) {
    for (const authorization of values) {
      const headers = authorization === undefined ? {} : { authorization };
      const answer = await app.inject({ url: models, headers });
      assert.equal(answer.statusCode, 401, String(authorization));
      assert.equal(answer.json<{ code: string }>().code, code, String(authorization));
      assert.equal(answer.headers['www-authenticate'], 'Bearer');
    }
  }
  assert.equal(engine.modelCalls, 0);
  await app.close();
});

test('any bytes in the header are a 401, and so is a header sent twice', async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  const ask = (...lines: Buffer[]) =>
    exchange(
      port,
      Buffer.concat([
        Buffer.from(`GET ${models} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n`),
        ...lines.map((line) => Buffer.concat([Buffer.from('Authorization: '), line, Buffer.from('\r\n')])),
        Buffer.from('\r\n'),
      ]),
    );
  const bytes = Buffer.from(Array.from({ length: 223 }, (_, index) => index + 33).filter((byte) => byte !== 127));
  const good = Buffer.from(`Bearer ${secretOf('user')}`);
  for (const line of [
    bytes,
    Buffer.concat([Buffer.from('Bearer '), bytes]),
    Buffer.from('Bearer ключ'),
    Buffer.from('Bearer \ufffd'),
  ]) {
    assert.match(await ask(line), /^HTTP\/1\.1 401 /);
  }
  assert.match(await ask(good, good), /^HTTP\/1\.1 401 /);
  assert.match(await ask(good, Buffer.from('Bearer x')), /^HTTP\/1\.1 401 /);
  assert.match(await ask(good), /^HTTP\/1\.1 200 /);
  assert.equal(engine.modelCalls, 1);
  await app.close();
});

test('a key that lacks the right is forbidden, before its body is looked at', async () => {
  const { app, engine } = await testApp();
  for (const role of ['viewer', 'operator'] as const) {
    const answer = await app.inject({
      method: 'POST',
      url: '/api/claude/query',
      headers: bearer(role),
      payload: '{broken',
    });
    assert.equal(answer.statusCode, 403);
    assert.equal(answer.json<{ code: string }>().code, 'forbidden');
  }
  assert.equal(engine.calls.length, 0);
  await app.close();
});

test('no way of writing an address reaches the engine without a key', async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  const targets = [
    models,
    `${models}?key=${secretOf('user')}`,
    `${models};x=/health`,
    `/${models}`,
    `/api//claude/models`,
    `/api/./claude/models`,
    `/health/..${models}`,
    '/api/claude/%6dodels',
    '/api%2fclaude%2fmodels',
    '/API/CLAUDE/MODELS',
    `${models}/`,
    `${models}%00`,
    `${models}%2f..%2f..%2fhealth`,
    `${models}#/health`,
    `http://localhost${models}`,
    `http://localhost/health/..${models}`,
    `http://localhost${models}?/health`,
    `HTTP://LOCALHOST${models}`,
  ];
  for (const target of targets) {
    for (const method of ['GET', 'HEAD', 'POST', 'OPTIONS', 'TRACE']) {
      const answer = await exchange(
        port,
        `${method} ${target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`,
      );
      assert.match(answer, /^HTTP\/1\.1 4\d\d /, `${method} ${target}`);
    }
  }
  assert.equal(engine.modelCalls, 0);
  await app.close();
});

test('a refusal does not wait for the body', async () => {
  const { app } = await testApp();
  const port = await listen(app);
  const head = `POST /api/claude/query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n`;
  assert.match(await exchange(port, `${head}Content-Length: 999999999\r\n\r\n`), /^HTTP\/1\.1 401 /);
  assert.match(await exchange(port, `${head}Transfer-Encoding: chunked\r\n\r\n`), /^HTTP\/1\.1 401 /);
  const expecting = await exchange(port, `${head}Expect: 100-continue\r\nContent-Length: 10\r\n\r\n`);
  assert.match(expecting, /^HTTP\/1\.1 401 /, 'a body that nobody may send is not invited');
  await app.close();
});

test('an invited body is read, and any other expectation refused', async () => {
  const { app } = await testApp();
  const port = await listen(app);
  const body = JSON.stringify({ prompt: 'x' });
  const head = `POST /api/claude/query HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer ${secretOf('user')}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n`;
  assert.match(
    await exchange(port, `${head}Expect: 100-continue\r\n\r\n${body}`),
    /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 /,
  );
  const large = head.replace(/Content-Length: \d+/, 'Content-Length: 10000000');
  assert.match(await exchange(port, `${large}Expect: 100-continue\r\n\r\n`), /^HTTP\/1\.1 413 /);
  assert.match(await exchange(port, `${head}Expect: tea\r\n\r\n${body}`), /^HTTP\/1\.1 400 [^]*x-request-id/);
  await app.close();
});
