import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import http from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { systemClock } from '../engine/clock.ts';
import { createBroker } from './broker.ts';
import { loadPrices } from './prices.ts';
import {
  answerStream,
  apiKey,
  begin,
  grant,
  post,
  readAnswer,
  startBroker,
  startUpstream,
  streamOf,
  upstreamAt,
} from './test-support.ts';

const within = { timeout: 20_000 };

test('a connection is kept for the next call on both sides', within, async (t) => {
  const sockets = new Set<unknown>();
  const upstream = await startUpstream(t, (response) => {
    sockets.add(response.socket);
    answerStream(response);
  });
  const { broker } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  pass.bind(grant());
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  for (let count = 0; count < 5; count++) {
    assert.equal((await post(broker, { token: pass.token, agent })).status, 200);
  }
  assert.equal(sockets.size, 1);
});

test('a kept connection that the upstream closes as it is used again costs no retry', within, async (t) => {
  let requests = 0;
  // Closes each connection when a second request arrives on it, before any answer.
  const server = createServer((socket) => {
    let onThis = 0;
    let text = '';
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      text += chunk.toString();
      if (!text.includes('"Hello"}]}')) return;
      text = '';
      requests++;
      if (++onThis === 2) return void socket.resetAndDestroy();
      const body = streamOf('Hi');
      socket.write(
        `HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
      );
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const { port } = server.address() as { port: number };
  const { broker, records } = await startBroker(t, `http://127.0.0.1:${port}`);
  const pass = broker.issue();
  const retries: number[] = [];
  const turn = pass.bind(grant({ onRetry: (attempt) => retries.push(attempt) }));
  for (let count = 0; count < 2; count++) {
    assert.equal((await post(broker, { token: pass.token })).body.toString(), streamOf('Hi'));
  }
  await turn.settle();
  assert.equal(requests, 3);
  assert.deepEqual(retries, []);
  assert.equal(records.length, 2);
});

test('the socket can be used by every user and is gone after close', within, async (t) => {
  const { broker } = await startBroker(t, 'http://127.0.0.1:9');
  assert.equal((await stat(broker.socketPath)).mode & 0o777, 0o666);
  await broker.close();
  await assert.rejects(stat(broker.socketPath), { code: 'ENOENT' });
});

test('close ends running calls and waits until their usage is stored', within, async (t) => {
  const upstream = await startUpstream(t, (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write(streamOf('Hi').slice(0, 300));
  });
  const gate = Promise.withResolvers<void>();
  let stored = false;
  const record = async (): Promise<void> => {
    await gate.promise;
    stored = true;
  };
  const { broker } = await startBroker(t, upstream.url, { record });
  const pass = broker.issue();
  pass.bind(grant());
  const response = await begin(broker, { token: pass.token });
  const closed = broker.close();
  assert.equal((await readAnswer(response)).whole, false);
  gate.resolve();
  await closed;
  assert.ok(stored);
});

test('a socket that was left behind is replaced, anything else is not', within, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'spb-'));
  t.after(() => rm(directory, { recursive: true }));
  const socketPath = join(directory, 's');
  const options = {
    socketPath,
    upstreams: [upstreamAt('http://127.0.0.1:9')],
    prices: loadPrices(null),
    clock: systemClock,
    log: { info: () => {}, warn: () => {}, error: () => {} },
    record: async () => {},
  };
  const dead = createServer();
  dead.listen(socketPath);
  await once(dead, 'listening');
  t.after(() => dead.close());
  const broker = await createBroker(options);
  assert.equal((await post(broker, { token: 'x' })).status, 400);
  await broker.close();
  await writeFile(socketPath, 'precious');
  await assert.rejects(createBroker(options), /something else at the socket's path/);
  await assert.rejects(createBroker({ ...options, socketPath: `/tmp/${'x'.repeat(100)}` }), /too long/);
});

for (const [baseUrl, key] of [
  ['ftp://127.0.0.1', apiKey],
  ['nonsense', apiKey],
  ['http://user:pass@127.0.0.1', apiKey],
  ['http://127.0.0.1', ''],
] as const) {
  test(`an upstream at ${baseUrl} with key ${key === apiKey} is refused without naming the key`, within, async (t) => {
    const upstreams = [upstreamAt(baseUrl, { keys: [key] })];
    await assert.rejects(startBroker(t, '', { upstreams }), (error: Error) => !error.message.includes(apiKey));
  });
}

test('an upstream without keys gets none', within, async (t) => {
  const upstream = await startUpstream(t, (response) => answerStream(response));
  const { broker } = await startBroker(t, '', { upstreams: [upstreamAt(upstream.url, { keys: [] })] });
  const pass = broker.issue();
  pass.bind(grant());
  assert.equal((await post(broker, { token: pass.token })).status, 200);
  assert.equal(upstream.requests[0]?.headers['x-api-key'], undefined);
});
