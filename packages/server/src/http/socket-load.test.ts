import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StreamItem } from '@sallyport/protocol';
import { WebSocket } from 'ws';
import { aborted, textItem } from './engine-support.ts';
import { maxUnsentBytes } from './socket-outbox.ts';
import { openSocket, socketApp, type Client } from './socket-support.ts';
import { bearer, eventually } from './testing.ts';

const limit = { timeout: 60_000 };
const longTime = 3_600_000;

test('ten thousand frames at once are answered in order, while others are served', limit, async () => {
  const { app, port, sockets } = await socketApp();
  const [flooding, other] = [await openSocket(port), await openSocket(port)];
  const count = 10_000;
  let answered = 0;
  flooding.socket.removeAllListeners('message');
  flooding.socket.on('message', () => (answered += 1));
  for (let n = 0; n < count; n += 1) flooding.socket.send('{"type":"ping"}');
  assert.deepEqual(await other.ping(), []);
  assert.ok(answered < count, 'the other one did not wait for the end of the flood');
  await eventually(() => answered === count);
  sockets.terminate();
  await app.close();
});

/** Sends the frame until the service takes no more, and gives how often. Throws when it takes everything. */
async function fill(client: Client, frame: string): Promise<number> {
  const batch = 2_000;
  for (let sent = batch; sent <= 200 * batch; sent += batch) {
    for (let n = 0; n < batch; n += 1) client.socket.send(frame);
    let unsent = -1;
    for (let same = 0; unsent !== 0 && same < 10;) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      same = client.socket.bufferedAmount === unsent ? same + 1 : 0;
      unsent = client.socket.bufferedAmount;
    }
    if (unsent > 0) return sent;
  }
  throw new Error('the service takes everything');
}

test('a flood is not read further while one of its frames is worked on', limit, async () => {
  const { app, port, engine, sockets } = await socketApp({ heartbeatMs: 20 });
  const working = Promise.withResolvers<void>();
  engine.interrupt = async () => {
    await working.promise;
    return true;
  };
  const client = await openSocket(port);
  client.send({ type: 'interrupt', session_id: 'conv-1' });
  const count = await fill(client, JSON.stringify({ type: 'resume', session_id: 'x', after: 'x'.repeat(5_000) }));
  assert.equal(sockets.size, 1, 'a client that is not read is not taken to be gone');
  working.resolve();
  let refused = 0;
  while (refused < count) {
    const told = await client.next();
    assert.equal(told.type, 'error');
    refused += 1;
  }
  assert.deepEqual(await client.ping(), []);
  sockets.terminate();
  await app.close();
});

/** Events without an end. */
async function* endless(made: { count: number }, item: StreamItem, signal: AbortSignal): AsyncGenerator<StreamItem> {
  for (; !signal.aborted; made.count += 1) yield item;
}

/** Stops reading, as a client does that hangs. */
const hang = (client: Client): void => client.socket.pause();

test('a reader that takes nothing holds no more than its bound, and is closed with 1013', limit, async () => {
  const { app, port, engine, sockets } = await socketApp({ heartbeatMs: 150 });
  const made = { count: 0 };
  const size = 10_000;
  engine.reading = ({ signal }) => endless(made, textItem(1, 'x'.repeat(size)), signal);
  const client = await openSocket(port);
  hang(client);
  client.send({ type: 'resume', session_id: 'conv-1' });
  client.send({ type: 'ping' }); // its answer waits behind
  await eventually(() => made.count > maxUnsentBytes / size);
  await eventually(() => engine.open === 0);
  const held = made.count;
  assert.ok(held * size < 100_000_000, 'what the machine itself keeps for a connection, and our bound');
  client.socket.resume();
  assert.equal((await client.closed).code, 1013);
  const sent = client.frames.filter(({ type }) => type === 'claude_response').length;
  assert.ok(sent > 0 && sent <= held + 1, 'the last one counts when the next is asked for');
  await eventually(() => sockets.size === 0);
  const again = await openSocket(port);
  again.send({ type: 'resume', session_id: 'conv-1', after: '1.0' });
  await again.until('claude_response');
  again.socket.terminate();
  await eventually(() => sockets.size === 0 && engine.open === 0);
  await app.close();
});

test('a slow reader that goes on reading gets everything', limit, async () => {
  const { app, port, engine, sockets } = await socketApp();
  const count = 2_000;
  engine.reading = async function* reading({ signal }) {
    for (let n = 1; n <= count; n += 1) yield textItem(n, 'x'.repeat(5_000));
    await aborted(signal);
  };
  const client = await openSocket(port);
  client.send({ type: 'resume', session_id: 'conv-1' });
  for (let n = 1; n <= count; n += 1) {
    const frame = await client.next();
    assert.ok(frame.type === 'claude_response' && frame.seq === `${n}.5000`);
    if (n % 200 !== 0) continue;
    client.socket.pause();
    await new Promise((resolve) => setTimeout(resolve, 5));
    client.socket.resume();
  }
  sockets.terminate();
  await app.close();
});

test('a client that asks without reading the answers holds no more than its bound', limit, async () => {
  const { app, port, sockets } = await socketApp();
  const client = await openSocket(port);
  hang(client);
  await fill(client, JSON.stringify({ type: 'ping', x: 'x'.repeat(300) }));
  assert.deepEqual(await (await openSocket(port)).ping(), []);
  sockets.terminate();
  await app.close();
});

test('two sockets that get the same event are sent the same bytes, made once', limit, async () => {
  const { app, port, engine, sockets } = await socketApp();
  let made = 0;
  const { cursor, event } = textItem(1, 'x');
  const counted = Object.defineProperty({ ...event }, 'tools_used', {
    enumerable: true,
    get: () => {
      made += 1;
      return [];
    },
  });
  const shared: StreamItem = { cursor, event: counted };
  engine.reading = async function* reading({ signal }) {
    yield shared;
    await aborted(signal);
  };
  for (let n = 0; n < 3; n += 1) {
    const client = await openSocket(port);
    client.send({ type: 'resume', session_id: 'conv-1' });
    assert.equal((await client.next()).type, 'claude_response');
  }
  assert.equal(made, 1);
  sockets.terminate();
  await app.close();
});

test('a client that answers pings stays, and one that does not is cut', limit, async () => {
  const { app, port, sockets } = await socketApp({ heartbeatMs: 60 });
  const alive = await openSocket(port);
  const silent = new WebSocket(`ws://127.0.0.1:${port}/ws/a`, { headers: bearer('user'), autoPong: false });
  let pings = 0;
  silent.on('ping', () => (pings += 1));
  await new Promise((resolve) => silent.once('close', resolve));
  assert.equal(pings, 2);
  await eventually(() => sockets.size === 1);
  assert.deepEqual(await alive.ping(), []);
  sockets.terminate();
  await app.close();
});

test('a client that does not answer the close is cut, so that the service can end', limit, async () => {
  const { app, port, sockets } = await socketApp();
  const client = await openSocket(port);
  hang(client);
  sockets.goAway();
  await app.close();
  await eventually(() => sockets.size === 0);
});

test('a hundred sockets that leave abruptly leave no timer, listener or reader behind', limit, async () => {
  const { app, port, engine, sockets } = await socketApp({ heartbeatMs: longTime });
  engine.reading = async function* reading({ signal }) {
    yield textItem(1, 'hello');
    await aborted(signal);
  };
  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
  const listeners = () => app.server.eventNames().reduce((sum, name) => sum + app.server.listenerCount(name), 0);
  const visit = async (count: number) => {
    const clients = await Promise.all(Array.from({ length: count }, () => openSocket(port)));
    for (const client of clients) client.send({ type: 'resume', session_id: 'conv-1' });
    for (const client of clients) client.send({ type: 'start_conversation', prompt: 'x' });
    await Promise.all(clients.map((client) => client.until('conversation_started')));
    for (const client of clients) client.socket.terminate();
    await eventually(() => engine.open === 0 && sockets.size === 0);
  };
  await visit(1);
  const before = { timers: timers(), listeners: listeners() };
  for (let round = 0; round < 2; round += 1) await visit(50);
  await eventually(() => timers() <= before.timers);
  assert.equal(listeners(), before.listeners);
  assert.equal(engine.interrupted.signal.aborted, false, 'nothing was stopped');
  await app.close();
});
