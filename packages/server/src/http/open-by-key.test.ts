import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { once } from 'node:events';
import { OpenByKey } from './open-by-key.ts';
import { bearer, eventually, listen, testApp } from './testing.ts';
import { aborted, textItem } from './engine-support.ts';

const limit = { timeout: 30_000 };

test('each key has its own places, and one that is given back is free', () => {
  const open = new OpenByKey(2);
  const [a, b] = [
    { tenant: 't', key: 'a' },
    { tenant: 't","a', key: '' },
  ];
  open.enter(a);
  open.enter(a);
  open.enter(b);
  assert.throws(() => open.enter(a), { code: 'overloaded', retryAfter: 1 });
  open.leave(a);
  open.enter(a);
  assert.throws(() => open.enter(a), { code: 'overloaded' });
  open.leave(a);
  assert.equal(open.keys, 2);
  open.leave(a);
  open.leave(b);
  assert.equal(open.keys, 0);
});

test(
  'a key that has too much open is refused, streams and sockets together, until one of them ends',
  limit,
  async () => {
    const { app, engine } = await testApp({ maxOpenPerKey: 2 });
    engine.reading = async function* following({ signal }) {
      yield textItem(1, 'hello');
      await aborted(signal);
    };
    const port = await listen(app);
    const address = `http://127.0.0.1:${port}/api/claude`;
    const leaving = new AbortController();
    const events = await fetch(`${address}/conversation/conv-1/events`, {
      headers: bearer('user'),
      signal: leaving.signal,
    });
    const socket = new WebSocket(`ws://127.0.0.1:${port}/ws/a`, { headers: bearer('user') });
    await once(socket, 'open');
    const models = async (role: 'user' | 'admin') =>
      (await fetch(`${address}/models`, { headers: bearer(role) })).status;
    assert.deepEqual([await models('user'), await models('admin')], [503, 200]);
    const refused = new WebSocket(`ws://127.0.0.1:${port}/ws/b`, { headers: bearer('user') });
    const [error] = (await once(refused, 'error')) as [Error];
    assert.match(error.message, /503/u);
    leaving.abort();
    await events.text().catch(() => undefined);
    let status = 0;
    for (let tries = 0; status !== 200 && tries < 500; tries += 1) status = await models('user');
    assert.equal(status, 200);
    socket.terminate();
    await eventually(() => app.sockets.size === 0);
    for (let asked = 0; asked < 5; asked += 1)
      assert.equal(await models('user'), 200, 'an answer that is over holds no place');
    await app.close();
  },
);
