import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { exchange, listen, secretOf, testApp } from './testing.ts';

const fast = { headersMs: 400, requestMs: 800, checkMs: 50 };
const auth = `Authorization: Bearer ${secretOf('user')}\r\n`;
const post = `POST /api/claude/query HTTP/1.1\r\nHost: localhost\r\n${auth}Content-Type: application/json\r\n`;

test('headers that do not arrive in time are answered 408 and the connection closed', { timeout: 10_000 }, async () => {
  const { app } = await testApp({ limits: fast });
  const port = await listen(app);
  const answer = await exchange(port, 'GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ');
  assert.match(answer, /^HTTP\/1\.1 408 Request Timeout\r\n[^]*x-request-id: req-[^]*"code":"request_timeout"/);
  await app.close();
});

test('a body that does not arrive in time is answered 408 and never runs', { timeout: 10_000 }, async () => {
  const { app, engine } = await testApp({ limits: fast });
  const port = await listen(app);
  assert.match(await exchange(port, `${post}Content-Length: 100\r\n\r\n{"prompt":`), /^HTTP\/1\.1 408 /);
  assert.match(await exchange(port, `${post}Transfer-Encoding: chunked\r\n\r\n2\r\n{"`), /^HTTP\/1\.1 408 /);
  assert.equal(engine.calls.length, 0);
  await app.close();
});

test('a slow body after an answer closes the connection without a second answer', { timeout: 10_000 }, async () => {
  const { app } = await testApp({ limits: fast });
  const port = await listen(app);
  const answer = await exchange(
    port,
    'POST /api/claude/query HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{',
  );
  assert.match(answer, /^HTTP\/1\.1 401 /);
  assert.equal(answer.match(/HTTP\/1\.1/g)?.length, 1);
  await app.close();
});

test('a run that takes longer than requests may take to arrive is not cut', { timeout: 10_000 }, async () => {
  const { app, engine } = await testApp({ limits: fast });
  const port = await listen(app);
  const { play } = engine;
  engine.play = {
    ...play,
    ended: async (context) => {
      await new Promise((resolve) => setTimeout(resolve, 1500));
      return play.ended(context);
    },
  };
  assert.match(
    await exchange(port, `${post}Connection: close\r\nContent-Length: 14\r\n\r\n{"prompt":"x"}`),
    /^HTTP\/1\.1 200 /,
  );
  await app.close();
});

test('requests that two servers could read differently are refused', async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  const smuggled = `GET /api/claude/models HTTP/1.1\r\nHost: localhost\r\n${auth}\r\n`;
  const ambiguous = [
    `${post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
    `${post}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n${smuggled}`,
    `${post}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}${smuggled}`,
    `${post}Content-Length: +2\r\n\r\n{}${smuggled}`,
    `${post}Content-Length : 2\r\n\r\n{}${smuggled}`,
    `${post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n${smuggled}`,
    `${post}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n${smuggled}`,
    `${post}Transfer-Encoding: chunked\r\n\r\n0x5\r\nabcde\r\n0\r\n\r\n${smuggled}`,
    `${post} X-Folded: a\r\n\r\n${smuggled}`,
    `POST /api/claude/query HTTP/1.1\nHost: localhost\n${auth.trim()}\n\n${smuggled}`,
  ];
  for (const request of ambiguous) {
    const answer = await exchange(port, request);
    assert.match(answer, /^HTTP\/1\.1 400 [^]*x-request-id/, JSON.stringify(request.slice(120, 260)));
    assert.equal(answer.match(/HTTP\/1\.1 /g)?.length, 1);
  }
  assert.equal(engine.calls.length + engine.modelCalls, 0);
  await app.close();
});

test('headers beyond the limit are a 431', async () => {
  const { app } = await testApp();
  const port = await listen(app);
  const answer = await exchange(port, `GET / HTTP/1.1\r\nHost: localhost\r\nX-Big: ${'x'.repeat(64_000)}\r\n\r\n`);
  assert.match(answer, /^HTTP\/1\.1 431 [^]*"code":"headers_too_large"/);
  const target = await exchange(port, `GET /${'x'.repeat(64_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
  assert.match(target, /^HTTP\/1\.1 431 /);
  await app.close();
});

test('CONNECT and TRACE are refused and other protocols end at once', async () => {
  const { app } = await testApp();
  const port = await listen(app);
  assert.doesNotMatch(
    await exchange(port, 'CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n'),
    /^HTTP\/1\.1 2/,
  );
  assert.match(
    await exchange(port, 'TRACE / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'),
    /^HTTP\/1\.1 405 /,
  );
  assert.match(await exchange(port, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), /^HTTP\/1\.1 400 /);
  assert.match(await exchange(port, Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01])), /^HTTP\/1\.1 400 /);
  const upgrade = 'Connection: Upgrade, close\r\nUpgrade: h2c\r\n';
  assert.match(await exchange(port, `GET /health HTTP/1.1\r\n${upgrade}\r\n`), /^HTTP\/1\.1 200 /);
  await app.close();
});

test('a client that leaves while it sends its body does no harm and runs nothing', { timeout: 10_000 }, async () => {
  const { app, engine, log } = await testApp();
  const port = await listen(app);
  for (let count = 0; count < 20; count += 1) {
    await new Promise<void>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => {
        socket.write(`${post}Content-Length: 100\r\n\r\n{"prompt":`, () => socket.resetAndDestroy());
      });
      socket.on('close', () => resolve());
      socket.on('error', () => undefined);
    });
  }
  assert.equal((await fetch(`http://127.0.0.1:${port}/health`)).status, 200);
  assert.equal(engine.calls.length, 0);
  assert.deepEqual(
    log.filter(({ level }) => Number(level) >= 50),
    [],
  );
  await app.close();
});
