import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { aborted, outcomeOf, textItem, waitingPlay, type Reading } from './engine-support.ts';
import { openSocket } from './socket-support.ts';
import { bearer, eventually, exchange, listen, queryBody, secretOf, testApp } from './testing.ts';

const limit = { timeout: 120_000 };
const longTime = 3_600_000;
const url = '/api/claude/conversation/conv-1/events';
const auth = `Authorization: Bearer ${secretOf('user')}\r\n`;
const events = `GET ${url} HTTP/1.1\r\nHost: localhost\r\n${auth}\r\n`;
const stream = `POST /api/claude/stream HTTP/1.1\r\nHost: localhost\r\n${auth}Content-Type: application/json\r\nContent-Length: ${queryBody.length}\r\n\r\n${queryBody}`;

/** Says `hello` and then follows a conversation in which nothing happens. */
async function* following({ signal }: Reading) {
  yield textItem(1, 'hello');
  await aborted(signal);
}

const digits = fc.stringMatching(/^[0-9]{0,20}$/);
const places = fc.oneof(
  fc.tuple(digits, fc.constantFrom('.', '', '..', ',', ' .', '%2e', '-'), digits).map((parts) => parts.join('')),
  fc.tuple(fc.nat(), fc.nat()).map((parts) => parts.join('.')),
  fc.string({ maxLength: 30 }),
  fc.string({ unit: 'binary', maxLength: 30 }).map((text) => text.toWellFormed()),
  fc.constantFrom('0.0', '00.0', '1.0 ', '\t1.0', '+1.0', '1e1.0', 'NaN.0', 'Infinity.0', '-0.0', '9007199254740993.0'),
);

/** The place that a text names, in the one way of writing it. */
function placeOf(text: string): { seq: number; chars: number } | null {
  const [seq, chars, ...more] = text.split('.').map((part) => (String(Number(part)) === part ? Number(part) : -1));
  if (seq === undefined || chars === undefined || more.length > 0) return null;
  return [seq, chars].every((number) => number >= 0 && number < 1e15) ? { seq, chars } : null;
}

test('whatever stands for a cursor, it is exactly that place or a bad cursor', limit, async () => {
  const { app, engine } = await testApp();
  await fc.assert(
    fc.asyncProperty(places, async (text) => {
      engine.asked.length = 0;
      const answer = await app.inject({ url: `${url}?after=${encodeURIComponent(text)}`, headers: bearer('user') });
      const cursor = placeOf(text);
      assert.equal(answer.statusCode, cursor ? 200 : 400, text);
      assert.equal(engine.asked.length, cursor ? 1 : 0);
      const asked = engine.asked[0]?.rest[0] as Reading | undefined;
      if (cursor) assert.deepEqual(asked?.after, cursor);
      else assert.equal(answer.json<{ code: string }>().code, 'bad_cursor');
    }),
    { numRuns: 500, examples: [['0.0'], ['1.0\n'], ['1.0\u0000'], [`${2 ** 53}.0`]] },
  );
  assert.equal(engine.open, 0);
  await app.close();
});

test('whatever bytes stand in Last-Event-ID, nothing fails and no other place is read', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  const byte = fc.integer({ min: 1, max: 255 }).filter((code) => code !== 10 && code !== 13);
  const raw = fc.array(byte, { maxLength: 40 }).map((codes) => String.fromCharCode(...codes));
  const one = fc.oneof(
    raw,
    places.map((text) => text.replaceAll(/[\r\n\0]/g, '')),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(one, { minLength: 1, maxLength: 2 }), async (values) => {
      engine.asked.length = 0;
      const lines = values.map((value) => `Last-Event-ID: ${value}\r\n`).join('');
      const head = `GET ${url}?follow=false HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${auth}${lines}\r\n`;
      const answer = await exchange(port, Buffer.from(head, 'latin1'));
      assert.match(answer, /^HTTP\/1\.1 (200|400) [^]*x-request-id: /i);
      const asked = engine.asked[0]?.rest[0] as Reading | undefined;
      assert.equal(asked !== undefined, answer.startsWith('HTTP/1.1 200'));
      if (!asked) return;
      assert.deepEqual(asked.after, placeOf(values.join(', ').trim()));
    }),
    { numRuns: 300, examples: [[['1.0', '1.0']], [['1.0\u0080']], [['\u00a01.0']], [['']]] },
  );
  await app.close();
});

test('a reader that takes nothing holds a bounded part of the log, and is cut', limit, async () => {
  const { app, engine } = await testApp({ heartbeatMs: 500 });
  const port = await listen(app);
  const size = 20_000;
  let made = 0;
  engine.reading = async function* endless({ signal }) {
    for (; !signal.aborted; made += 1) yield textItem(made + 1, 'x'.repeat(size));
  };
  const sockets = Array.from({ length: 5 }, () => {
    const socket = connect(port, '127.0.0.1').on('error', () => undefined);
    socket.pause();
    socket.write(events);
    return socket;
  });
  await eventually(() => engine.open === sockets.length);
  assert.equal((await fetch(`http://127.0.0.1:${port}/health`)).status, 200);
  await eventually(() => engine.open === 0 && app.appState.readers.size === 0);
  assert.ok(made * size < sockets.length * 30_000_000, `${made} events were taken`);
  for (const socket of sockets) socket.destroy();
  await app.close();
});

const kinds = (kind: string) => process.getActiveResourcesInfo().filter((name) => name === kind).length;

test('a thousand clients that leave abruptly leave no listener, timer or handle behind', limit, async () => {
  const { app, engine, log } = await testApp({ heartbeatMs: longTime }); // a timer that is left would outlive the test
  const port = await listen(app);
  engine.play = waitingPlay;
  engine.reading = following;
  const counts = () => ({
    timers: kinds('Timeout'),
    immediates: kinds('Immediate'),
    handles: kinds('TCPSocketWrap'),
    server: app.server.eventNames().reduce((sum, name) => sum + app.server.listenerCount(name), 0),
    process: process.eventNames().reduce((sum, name) => sum + process.listenerCount(name), 0),
  });
  const visit = async (each: number) => {
    const raw = [events, stream].flatMap((request) =>
      Array.from({ length: each }, (): Socket => {
        const socket = connect(port, '127.0.0.1').on('error', () => undefined);
        socket.write(request);
        return socket;
      }),
    );
    const clients = await Promise.all(Array.from({ length: each }, () => openSocket(port)));
    for (const client of clients) client.send({ type: 'resume', session_id: 'conv-1' });
    await eventually(() => engine.open === 3 * each && app.sockets.size === each);
    for (const socket of raw) socket.resetAndDestroy();
    for (const client of clients) client.socket.terminate();
    await eventually(() => engine.open + app.sockets.size + app.appState.runs.size + app.appState.readers.size === 0);
    engine.asked.length = 0;
    engine.calls.length = 0;
  };
  await visit(20);
  await eventually(() => counts().handles === 0);
  const before = counts();
  for (let round = 0; round < 17; round += 1) await visit(20);
  await eventually(() => JSON.stringify(counts()) === JSON.stringify(before));
  assert.ok(log.every((line) => Number(line['level']) < 50));
  await app.close();
});

test('a client that closes its side of a stream has left, though its connection stays', limit, async () => {
  const { app, engine } = await testApp({ heartbeatMs: longTime });
  const port = await listen(app);
  engine.play = waitingPlay;
  engine.reading = following;
  const sockets = [events, stream].flatMap((request) =>
    Array.from({ length: 25 }, () => {
      const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true }).on('error', () => undefined);
      socket.resume().write(request);
      return socket;
    }),
  );
  await eventually(() => engine.open === 50);
  for (const socket of sockets) socket.end();
  await eventually(() => engine.open + app.appState.runs.size + app.appState.readers.size === 0);
  assert.ok(engine.calls.every(({ context }) => context.signal.aborted));
  for (const socket of sockets) socket.destroy();
  await app.close();
});

test('a hundred requests at once under one request id get each their own answer', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  engine.play = {
    ...engine.play,
    ended: async () => {
      const prompt = engine.calls.at(-1)?.request.prompt ?? '';
      await new Promise((resolve) => setTimeout(resolve, prompt.length % 7));
      const [first, ...messages] = outcomeOf().messages;
      assert.ok(first);
      return { ...outcomeOf(), messages: [{ ...first, content: prompt }, ...messages] };
    },
  };
  const ask = async (prompt: string): Promise<void> => {
    const answer = await fetch(`http://127.0.0.1:${port}/api/claude/query`, {
      method: 'POST',
      headers: { ...bearer('user'), 'content-type': 'application/json', 'x-request-id': 'the-same' },
      body: JSON.stringify({ prompt }),
    });
    const { messages } = (await answer.json()) as { messages: { content: string }[] };
    assert.deepEqual([answer.headers.get('x-request-id'), messages[0]?.content], ['the-same', prompt]);
  };
  await Promise.all(Array.from({ length: 100 }, (_, at) => ask(`canary-${'x'.repeat(at)}-${at}`)));
  assert.equal(engine.calls.length, 100);
  await app.close();
});
