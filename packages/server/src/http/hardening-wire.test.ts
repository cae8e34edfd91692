import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { aborted } from './engine-support.ts';
import { bearer, eventually, exchange, listen, queryBody, secretOf, testApp } from './testing.ts';

const limit = { timeout: 60_000 };
const auth = `Authorization: Bearer ${secretOf('user')}\r\n`;
const models = (headers = '') => `GET /api/claude/models HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n`;
const head = (headers: string) =>
  `POST /api/claude/query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n${headers}`;
const statuses = (answer: string): string[] =>
  [...answer.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, code = '']) => code);

test('of requests that are sent at once each is judged by its own key, and answered in order', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  const answer = await exchange(
    port,
    models(auth),
    models(),
    models('Authorization: Bearer x\r\n'),
    `${head(auth)}Content-Length: ${queryBody.length}\r\n\r\n${queryBody}`,
    'GET /health HTTP/1.1\r\n\r\n',
    models(`${auth}Connection: close\r\n`),
  );
  assert.deepEqual(statuses(answer), ['200', '401', '401', '200', '200', '200']);
  assert.deepEqual([engine.modelCalls, engine.calls.length], [2, 1]);
  await app.close();
});

test('what is sent as a body is never taken for a request', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  const hidden = models(auth);
  const chunk = `${hidden.length.toString(16)}\r\n${hidden}\r\n0\r\n\r\n`;
  const last = 'GET /health HTTP/1.1\r\nConnection: close\r\n\r\n';
  for (const [what, code, request] of [
    ['a refused body', '401', `${head('')}Content-Length: ${hidden.length}\r\n\r\n${hidden}`],
    ['a refused body in chunks', '401', `${head('')}Transfer-Encoding: chunked\r\n\r\n${chunk}`],
    ['a body that is no JSON', '400', `${head(auth)}Content-Length: ${hidden.length}\r\n\r\n${hidden}`],
    ['the same in chunks', '400', `${head(auth)}Transfer-Encoding: chunked\r\n\r\n${chunk}`],
    ['the body of a GET', '200', `GET /health HTTP/1.1\r\nContent-Length: ${hidden.length}\r\n\r\n${hidden}`],
    ['that of a refused one', '401', `${models().slice(0, -2)}Content-Length: ${hidden.length}\r\n\r\n${hidden}`],
    [
      'that of no route',
      '404',
      `POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${hidden.length}\r\n\r\n${hidden}`,
    ],
    ['trailers', '400', `${head(auth)}Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\n\r\n`],
  ] as const) {
    const [first, ...others] = statuses(await exchange(port, request, last));
    assert.ok(first === code && ['', '200'].includes(others.join()), `${what}: ${first} ${others.join()}`);
  }
  assert.equal(engine.modelCalls + engine.calls.length, 0);
  await app.close();
});

test(
  'a message that two servers could end at different places is refused, and ends the connection',
  limit,
  async () => {
    const { app, engine } = await testApp();
    const port = await listen(app);
    const chunked = `${head(auth)}Transfer-Encoding: chunked\r\n\r\n`;
    const size = queryBody.length.toString(16);
    const broken = [
      `${head(auth)}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      `${head(auth)}Transfer-Encoding: identity\r\n\r\n`,
      `${head(auth)}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n`,
      `${head(auth)}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n`,
      `${head(auth)}Transfer-Encoding: chunked;q=0.5\r\n\r\n0\r\n\r\n`,
      `${head(auth)}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n`,
      `${head(auth)}Transfer-Encoding: gzip, chunked, gzip\r\n\r\n0\r\n\r\n`,
      `${head(auth)}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n`,
      `${head(auth)}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n`,
      `${head(auth)}Content-Length: 5, 5\r\n\r\nabcde`,
      `${head(auth)}Content-Length: -1\r\n\r\n`,
      `${head(auth)}Content-Length: 0x5\r\n\r\nabcde`,
      `${head(auth)}Content-Length: 5 5\r\n\r\nabcde`,
      `${head(auth)}Content-Length: 1e1\r\n\r\nabcdefghij`,
      `${head(auth)}Content-Length: ${'9'.repeat(30)}\r\n\r\n`,
      `${head(auth)}Content-Length:\r\n\r\n`,
      `${chunked}${'f'.repeat(17)}\r\n`,
      `${chunked}-5\r\nabcde\r\n0\r\n\r\n`,
      `${chunked}+5\r\nabcde\r\n0\r\n\r\n`,
      `${chunked} 5\r\nabcde\r\n0\r\n\r\n`,
      `${chunked}5 \r\nabcde\r\n0\r\n\r\n`,
      `${chunked}${size}\r\n${queryBody}0\r\n\r\n`,
      `${chunked}${size}\n${queryBody}\n0\n\n`,
      `${chunked}${size};\n${queryBody}\r\n0\r\n\r\n`,
      `${chunked}\r\n0\r\n\r\n`,
      `${chunked}x\r\n`,
      `${head(auth)}X: a\nY: b\r\n\r\n`,
      `${head(auth)}X: a\rY: b\r\n\r\n`,
      `${head(auth)}X: a\0b\r\n\r\n`,
      `${head(auth)}X\0: b\r\n\r\n`,
      `${head(auth)}: b\r\n\r\n`,
      `${head(auth)}no colon\r\n\r\n`,
      `${head(auth)}X y: b\r\n\r\n`,
      `GET\t/health\tHTTP/1.1\r\n\r\n`,
      `GET /health HTTP/1.1 \r\n\r\n`,
      `GET /health HTTP/1.2\r\n\r\n`,
      `GET /health HTTP/11\r\n\r\n`,
      `GET /health http/1.1\r\n\r\n`,
      `GET /health\r\n\r\n`,
      `get /health HTTP/1.1\r\n\r\n`,
      `G\0T /health HTTP/1.1\r\n\r\n`,
      `GET /hea\0lth HTTP/1.1\r\n\r\n`,
      `GET /health HTTP/1.1\r\r\n\r\n`,
      `GET /health HTTP/1.1\n\n`,
    ];
    for (const request of broken) {
      const answer = await exchange(port, Buffer.from(`${request}${models(auth)}`, 'latin1'));
      assert.match(answer, /^HTTP\/1\.1 (400|413) [^]*x-request-id: /i, JSON.stringify(request.slice(-60)));
      assert.deepEqual(statuses(answer).length, 1, JSON.stringify(request.slice(-60)));
    }
    assert.equal(engine.modelCalls + engine.calls.length, 0);
    await app.close();
  },
);

test('extensions of chunks are no way around the limits', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  const chunked = `${head(auth)}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n`;
  const size = queryBody.length.toString(16);
  assert.deepEqual(statuses(await exchange(port, `${chunked}${size};a=b;c="d"\r\n${queryBody}\r\n0\r\n\r\n`)), ['200']);
  const long = await exchange(port, `${chunked}${size};${'x'.repeat(100_000)}\r\n${queryBody}\r\n0\r\n\r\n`);
  assert.match(long, /^HTTP\/1\.1 413 [^]*"code":"body_too_large"/);
  const trailers = `0\r\n${`X-T: ${'x'.repeat(1_000)}\r\n`.repeat(60)}\r\n`;
  assert.match(await exchange(port, chunked, `${size}\r\n${queryBody}\r\n`, trailers), /^HTTP\/1\.1 431 /);
  assert.equal(engine.calls.length, 1);
  await app.close();
});

test('bytes that are no request are never answered in the place of a request before them', limit, async () => {
  const { app, engine } = await testApp({ limits: { headersMs: 300, checkMs: 50 } });
  const port = await listen(app);
  const { play } = engine;
  const wrong: string[] = [];
  const query = `${head(auth)}Content-Length: ${queryBody.length}\r\n\r\n${queryBody}`;
  for (const rest of [
    '\0',
    'GET / HTTP/9.9\r\n\r\n',
    'GET / HTTP/1.1\r\nX-Slow: ',
    `${head(auth)}Content-Length: x\r\n\r\n`,
  ]) {
    const run = Promise.withResolvers<void>();
    engine.play = {
      ...play,
      ended: async (context) => {
        await Promise.race([run.promise, aborted(context.signal)]);
        return play.ended(context);
      },
    };
    const started = engine.calls.length + 1;
    const answered = exchange(port, query, rest);
    await eventually(() => engine.calls.length === started);
    const early = await Promise.race([answered, new Promise((resolve) => setTimeout(resolve, 1_000, ''))]);
    run.resolve();
    if (/^HTTP\/1\.1 [45]/.test(String(early)))
      wrong.push(`${statuses(String(early))[0]} after ${JSON.stringify(rest)}`);
  }
  assert.deepEqual(wrong, []);
  await app.close();
});

/** A client that sends one byte after the other, and again from the last, until it is cut. */
function drip(
  port: number,
  first: string,
  rest: string,
): { readonly answer: () => string; readonly closed: () => boolean } {
  const socket: Socket = connect(port, '127.0.0.1');
  let answer = '';
  let closed = false;
  let at = 0;
  socket.setEncoding('latin1').on('data', (text: string) => (answer += text));
  socket.on('error', () => undefined);
  socket.write(first);
  const timer = setInterval(() => socket.write(rest[Math.min((at += 1), rest.length) - 1] ?? ''), 20);
  socket.on('close', () => {
    clearInterval(timer);
    closed = true;
  });
  return { answer: () => answer, closed: () => closed };
}

test('clients that send too slowly are closed, and others are served meanwhile', limit, async () => {
  const { app, engine, log } = await testApp({
    limits: { headersMs: 500, requestMs: 900, keepAliveMs: 300, checkMs: 50 },
  });
  const port = await listen(app);
  const many = <T>(make: () => T): T[] => Array.from({ length: 20 }, make);
  const x = 'x'.repeat(100_000);
  const slow = [
    ...many(() => drip(port, 'GET /api/claude/models HTTP/1.1\r\n', `X-Slow: ${x}`)),
    ...many(() => drip(port, models(auth).slice(0, -2), 'X: y\r\n'.repeat(20_000))),
    ...many(() => drip(port, `${head(auth)}Content-Length: 100000\r\n\r\n`, `{"prompt":"${x}`)),
    ...many(() =>
      drip(port, `${head(auth)}Transfer-Encoding: chunked\r\n\r\n`, `1\r\n{\r\n${'1\r\n \r\n'.repeat(9_000)}`),
    ),
    ...many(() => drip(port, 'GET /ws/a HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n', `X: ${x}`)),
    ...many(() => drip(port, '', x)),
  ];
  const idle = many(() => drip(port, '', ''));
  const kept = many(() => drip(port, 'GET /health HTTP/1.1\r\n\r\n', ''));
  let served = 0;
  while (!slow.every((client) => client.closed())) {
    const answer = await fetch(`http://127.0.0.1:${port}/api/claude/models`, { headers: bearer('user') });
    assert.equal(answer.status, 200);
    served += 1;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.ok(served > 0);
  assert.equal(engine.modelCalls, served);
  for (const { answer } of slow.slice(0, -20)) assert.match(answer(), /^HTTP\/1\.1 408 [^]*"code":"request_timeout"/);
  await eventually(() => [...idle, ...kept].every((client) => client.closed()));
  for (const { answer } of kept) assert.deepEqual(statuses(answer()), ['200']);
  assert.equal(engine.calls.length, 0);
  assert.deepEqual(
    log.filter((line) => Number(line['level']) >= 50),
    [],
  );
  await app.close();
});
