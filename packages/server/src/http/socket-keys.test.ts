import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { errorCatalogue } from '@sallyport/protocol';
import { WebSocket } from 'ws';
import { secretHash } from '../engine/keys.ts';
import { unnarrowed } from '../engine/narrowing.ts';
import { closeApp } from './close.ts';
import { aborted, textItem } from './engine-support.ts';
import { errorOf, openSocket, refusalOf, socketApp } from './socket-support.ts';
import { eventually, keysWith, listen, principalOf, testApp } from './testing.ts';

const limit = { timeout: 30_000 };

/** Sockets for a key of the store, over an engine whose conversations say `hello` and go on. */
async function made() {
  const keys = await keysWith('brief');
  const app = await socketApp({}, keys.keys);
  app.engine.reading = async function* following({ signal }) {
    yield textItem(1, 'hello');
    await aborted(signal);
  };
  return { ...keys, ...app };
}

test('a socket whose key is gone is told so and closed, and nothing is sent to it any more', limit, async () => {
  const { app, port, engine, sockets, tickets, stored, headers, revoke, log } = await made();
  const ticket = await tickets.issue(principalOf('user', { key: 'brief' }));
  const clients = [
    await openSocket(port, '/ws/a', { headers }),
    await openSocket(port, `/api/claude/ws/a?ticket=${ticket}`, { headers: {} }),
  ];
  const bystander = await openSocket(port);
  for (const client of [...clients, bystander]) {
    client.send({ type: 'resume', session_id: 'conv-1' });
    await client.until('claude_response');
  }
  await revoke();
  for (const client of clients) {
    const { code, error, in_reply_to: frame, retryable } = errorOf(await client.next());
    assert.deepEqual([code, error, frame, retryable], ['invalid_key', errorCatalogue.invalid_key.detail, null, false]);
    assert.equal((await client.closed).code, 1008);
    assert.deepEqual(client.frames, []);
  }
  await eventually(() => sockets.size === 1 && engine.open === 1);
  assert.deepEqual(await bystander.ping(), []);
  assert.equal(engine.interrupted.signal.aborted, false, 'turns are for the engine to stop');
  assert.ok(log.every(({ level }) => Number(level) < 40));
  const { asked } = stored;
  await new Promise((resolve) => setTimeout(resolve, 600));
  assert.equal(stored.asked, asked, 'nothing is watched any more');
  sockets.terminate();
  await app.close();
});

test(
  'of a key that was rotated the sockets of the old secret are closed, and those of the new one stay',
  limit,
  async () => {
    const { app, port, sockets, stored, headers, tickets } = await made();
    const old = await openSocket(port, '/ws/a', { headers });
    const held = principalOf('user', { key: 'brief', secretHash: secretHash('secret-of-brief') });
    const byTicket = await openSocket(port, `/ws/a?ticket=${await tickets.issue(held)}`, { headers: {} });
    const late = await tickets.issue(held);
    await stored.rotate('default', 'brief', secretHash('new'), 0);
    const fresh = await openSocket(port, '/ws/a', { headers: { authorization: 'Bearer new' } });
    assert.deepEqual([(await old.closed).code, (await byTicket.closed).code], [1008, 1008]);
    const [error] = (await once(new WebSocket(`ws://127.0.0.1:${port}/ws/a?ticket=${late}`), 'error')) as [Error];
    assert.match(error.message, /401/u);
    assert.deepEqual(await fresh.ping(), []);
    sockets.terminate();
    await app.close();
  },
);

test('a frame after the end of its key does nothing, however early', limit, async () => {
  const { app, port, engine, sockets, headers, revoke } = await made();
  const client = await openSocket(port, '/ws/a', { headers });
  await client.ping();
  await revoke();
  const { code } = await refusalOf(client, { type: 'start_conversation', prompt: 'x' });
  assert.equal(code, 'invalid_key');
  assert.equal((await client.closed).code, 1008);
  assert.equal(engine.asked.length, 0);
  await eventually(() => sockets.size === 0);
  await app.close();
});

test('a frame whose key cannot be looked at does nothing, and the socket lives', limit, async () => {
  const { app, port, engine, sockets, stored, headers, log } = await made();
  const client = await openSocket(port, '/ws/a', { headers });
  stored.failure = new Error('canary');
  const { code, error } = await refusalOf(client, { type: 'start_conversation', prompt: 'x' });
  assert.deepEqual([code, error], ['internal', errorCatalogue.internal.detail]);
  assert.equal(engine.asked.length, 0);
  assert.match(JSON.stringify(log), /canary/);
  stored.failure = null;
  assert.deepEqual(await client.ping(), []);
  sockets.terminate();
  await app.close();
});

test('every frame goes by what the key may now, its rates too', limit, async () => {
  const { keys, stored, headers } = await keysWith('brief');
  const { app, engine } = await testApp({ keys, requestsPerHour: 500 });
  const port = await listen(app);
  const client = await openSocket(port, '/ws/a', { headers });
  const narrow = { ...unnarrowed, permissionModes: ['readOnly'] as const };
  for (const narrowing of [null, narrow]) {
    await stored.change('default', 'brief', { narrowing });
    client.send({ type: 'interrupt', session_id: 'conv-1' });
    await client.ping();
    const held = { key: 'brief', secretHash: secretHash('secret-of-brief'), narrowing };
    assert.deepEqual(engine.asked.at(-1)?.principal, principalOf('user', held));
  }
  await stored.change('default', 'brief', { narrowing: { ...narrow, rates: { perHour: 1 } } });
  assert.equal((await refusalOf(client, { type: 'ping' })).code, 'rate_limited');
  await stored.change('default', 'brief', { narrowing: null });
  assert.deepEqual(await client.ping(), []);
  await closeApp(app, 0);
});

test('a client that takes nothing is cut when its key is gone', limit, async () => {
  const { app, port, engine, sockets, headers, revoke } = await made();
  engine.reading = async function* endless({ signal }) {
    for (let seq = 1; !signal.aborted; seq += 1) yield textItem(seq, 'x'.repeat(20_000));
  };
  const client = await openSocket(port, '/ws/a', { headers });
  client.send({ type: 'resume', session_id: 'conv-1' });
  await client.until('claude_response');
  client.socket.pause();
  await revoke();
  await eventually(() => engine.open === 0 && sockets.size === 0);
  await app.close();
});
