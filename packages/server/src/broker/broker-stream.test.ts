import assert from 'node:assert/strict';
import { randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { buffer } from 'node:stream/consumers';
import { test } from 'node:test';
import {
  begin,
  grant,
  post,
  readAnswer,
  requestBody,
  startBroker,
  startUpstream,
  streamOf,
  until,
} from './test-support.ts';

const within = { timeout: 20_000 };

test('an answer comes down byte for byte, however it is cut', within, async (t) => {
  const answers = Array.from({ length: 8 }, () => randomBytes(randomInt(1, 200_000)));
  const upstream = await startUpstream(t, async (response, _request, count) => {
    const bytes = answers[count - 1] as Buffer;
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    for (let at = 0; at < bytes.length;) {
      const size = randomInt(1, 20_000);
      response.write(bytes.subarray(at, at + size));
      at += size;
      await new Promise((resolve) => setImmediate(resolve));
    }
    response.end();
  });
  const { broker } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  pass.bind(grant());
  for (const expected of answers) {
    const { status, body, whole } = await post(broker, { token: pass.token });
    assert.equal(status, 200);
    assert.ok(whole);
    assert.ok(body.equals(expected));
  }
  assert.ok(upstream.requests.every(({ headers }) => headers['accept-encoding'] === 'identity'));
});

test('every piece of an answer is passed on before the next one comes', within, async (t) => {
  const pieces = ['a', 'b', 'c'];
  const gates = pieces.map(() => Promise.withResolvers<void>());
  const upstream = await startUpstream(t, async (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    for (const [index, piece] of pieces.entries()) {
      response.write(piece);
      await gates[index]?.promise;
    }
    response.end();
  });
  const { broker } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  pass.bind(grant());
  const response = await begin(broker, { token: pass.token });
  for (const [index, piece] of pieces.entries()) {
    const [chunk] = (await once(response, 'data')) as [Buffer];
    assert.equal(chunk.toString(), piece);
    gates[index]?.resolve();
  }
});

test('a process that leaves ends the call upstream', within, async (t) => {
  const upstream = await startUpstream(t, (response, _request, count) => {
    if (count > 1) response.writeHead(200, { 'content-type': 'text/event-stream' }).write('event: ping\n\n');
  });
  const { broker } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  const turn = pass.bind(grant());
  const headless = http.request({
    socketPath: broker.socketPath,
    path: '/v1/messages',
    method: 'POST',
    headers: { 'x-api-key': pass.token },
  });
  headless.on('error', () => {});
  headless.end(requestBody());
  await until(() => upstream.requests.length === 1);
  headless.destroy();
  await until(() => upstream.requests[0]?.left === true);
  const running = await begin(broker, { token: pass.token });
  running.on('error', () => {});
  running.destroy();
  await until(() => upstream.requests[1]?.left === true);
  await turn.settle();
  assert.equal(turn.failure(), null);
  assert.deepEqual(broker.health(), { ok: true, code: null });
});

test('what was wholly sent and then given up is charged with the input', within, async (t) => {
  const upstream = await startUpstream(t, () => {});
  const { broker, records } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  const turn = pass.bind(grant());
  const body = requestBody();
  const request = http.request({ socketPath: broker.socketPath, path: '/v1/messages', method: 'POST' });
  request.setHeader('x-api-key', pass.token);
  request.on('error', () => {});
  request.end(body);
  await until(() => upstream.requests.length === 1);
  request.destroy();
  await until(() => turn.calls.length === 1);
  await turn.settle();
  assert.deepEqual(
    records.map(({ status, usage }) => [status, usage.input_tokens, usage.output_tokens]),
    [[0, Math.ceil(body.length / 4), 0]],
  );
});

test('a revoked pass ends running calls on both sides and forgets its token', within, async (t) => {
  const upstream = await startUpstream(t, (response, _request, count) => {
    if (count === 1)
      response.writeHead(200, { 'content-type': 'text/event-stream' }).write(streamOf('Hi').slice(0, 300));
  });
  const { broker, records } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  const other = broker.issue();
  const turn = pass.bind(grant());
  other.bind(grant());
  const streaming = await begin(broker, { token: pass.token });
  const waiting = begin(broker, { token: pass.token });
  waiting.catch(() => {});
  await until(() => upstream.requests.length === 2);
  pass.revoke();
  assert.equal((await readAnswer(streaming)).whole, false);
  await assert.rejects(waiting);
  await until(() => upstream.requests.every(({ left }) => left));
  await turn.settle();
  assert.equal(turn.failure(), null);
  assert.deepEqual(
    records.map(({ status }) => status).toSorted((a, b) => a - b),
    [0, 200],
  );
  assert.equal((await post(broker, { token: pass.token })).status, 400);
  assert.equal(upstream.requests.length, 2);
});

test('a slow reader slows the upstream instead of filling the memory', within, async (t) => {
  const piece = Buffer.alloc(64 * 1024, 'x');
  const total = 64 * 1024 * 1024;
  let written = 0;
  let blocked = 0;
  const upstream = await startUpstream(t, async (response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    while (written < total) {
      written += piece.length;
      if (!response.write(piece)) {
        blocked = written;
        await once(response, 'drain');
      }
    }
    response.end();
  });
  const { broker } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  pass.bind(grant());
  const response = await begin(broker, { token: pass.token });
  let seen = -1;
  // The upstream has come to a halt when it has not written anything more for a while.
  while (seen !== written) {
    seen = written;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.equal(blocked, written);
  assert.ok(written < total / 2, `${written} bytes were taken`);
  assert.equal((await readAnswer(response)).body.length, total);
});

test('twenty streams at once do not mix', within, async (t) => {
  const upstream = await startUpstream(t, async (response, request) => {
    const { tag } = (JSON.parse(request.body) as { metadata: { tag: string } }).metadata;
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    for (let index = 0; index < 20; index++) {
      response.write(`data: {"tag":"${tag}","index":${index}}\n\n`);
      await new Promise((resolve) => setTimeout(resolve, randomInt(3)));
    }
    response.end(streamOf(tag, { end: { output_tokens: Number(tag) } }));
  });
  const { broker } = await startBroker(t, upstream.url);
  const turns = Array.from({ length: 20 }, (_value, index) => ({ tag: String(index + 1), pass: broker.issue() }));
  await Promise.all(
    turns.map(async ({ tag, pass }) => {
      const turn = pass.bind(grant({ key: tag }));
      const { body } = await post(broker, { token: pass.token, body: requestBody({ metadata: { tag } }) });
      const tags = Array.from({ length: 20 }, (_value, index) => `data: {"tag":"${tag}","index":${index}}\n\n`);
      assert.equal(body.toString(), tags.join('') + streamOf(tag, { end: { output_tokens: Number(tag) } }));
      await turn.settle();
      assert.deepEqual(
        turn.calls.map(({ key, usage }) => [key, usage.output_tokens]),
        [[tag, Number(tag)]],
      );
    }),
  );
});

test(
  'calls that a process sends one right after the other on a connection are answered in turn, each whole',
  within,
  async (t) => {
    const first = Promise.withResolvers<void>();
    const bodies = ['one', 'two'].map((text) => streamOf(text));
    const upstream = await startUpstream(t, async (response, _request, count) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      const body = bodies[count - 1]!;
      response.write(body.slice(0, 100));
      if (count === 1) await first.promise;
      else first.resolve();
      response.end(body.slice(100));
    });
    const { broker } = await startBroker(t, upstream.url);
    const pass = broker.issue();
    pass.bind(grant());
    const socket = net.connect(broker.socketPath);
    const body = requestBody();
    const call = (number: number, more: string) =>
      `POST /v1/messages?call=${number} HTTP/1.1\r\nhost: x\r\nx-api-key: ${pass.token}\r\ncontent-length: ${body.length}\r\n${more}\r\n${body}`;
    socket.write(call(1, '') + call(2, 'connection: close\r\n'));
    const answers = (await buffer(socket)).toString().split(/(?=HTTP\/1\.1 200 OK)/u);
    const contents = answers.map((answer) => unchunked(answer.slice(answer.indexOf('\r\n\r\n') + 4)));
    assert.deepEqual(contents, bodies);
  },
);

/** The content of a body in chunks of HTTP/1.1, which may hold nothing but ASCII. */
function unchunked(body: string): string {
  let [text, at] = ['', 0];
  for (;;) {
    const start = body.indexOf('\r\n', at) + 2;
    const size = Number.parseInt(body.slice(at, start), 16);
    if (size === 0) return body.slice(start) === '\r\n' ? text : `${text} and more`;
    text += body.slice(start, start + size);
    assert.equal(body.slice(start + size, start + size + 2), '\r\n');
    at = start + size + 2;
  }
}
