import assert from 'node:assert/strict';
import { test } from 'node:test';
import { limitedApp, told } from './rate-support.ts';
import { errorOf, openSocket, refusalOf } from './socket-support.ts';
import { eventually, exchange, listen, secretOf } from './testing.ts';

const limit = { timeout: 20_000 };

test('opening a socket and each of its frames count as requests of the key; the socket lives on', limit, async () => {
  const { app, ask, clock } = await limitedApp();
  const port = await listen(app);
  const client = await openSocket(port);
  for (const frame of ['garbage', { type: 'nothing' }, { type: 'send_message', message: '' }]) {
    assert.notEqual((await refusalOf(client, frame)).code, 'rate_limited');
  }
  for (let count = 0; count < 4; count += 1) assert.deepEqual(await client.ping(), []);
  assert.deepEqual(told(await ask()), ['30', '21', '500', '491']);
  await client.ping();
  clock.pass(3_500);
  for (const frame of [{ type: 'ping' }, 'garbage']) {
    const refused = await refusalOf(client, frame);
    assert.deepEqual([refused.code, refused.retryable, refused.retry_after], ['rate_limited', true, 7]);
    assert.equal(refused.in_reply_to, null);
  }
  assert.equal((await ask()).statusCode, 429, 'frames and requests are counted together');
  clock.pass(7_000);
  assert.deepEqual(await client.ping(), []);
  app.sockets.terminate();
  await app.close();
});

test('of a flood of frames as many are worked on as there are places, and each is answered', limit, async () => {
  const { app } = await limitedApp();
  const port = await listen(app);
  const client = await openSocket(port);
  for (let count = 0; count < 200; count += 1) client.send({ type: 'ping' });
  let pongs = 0;
  for (let count = 0; count < 200; count += 1) {
    const frame = await client.next();
    if (frame.type === 'pong') pongs += 1;
    else assert.equal(errorOf(frame).code, 'rate_limited');
  }
  assert.equal(pongs, 9);
  app.sockets.terminate();
  await app.close();
});

test('an upgrade tells what is left, and over the limit it is refused over HTTP', limit, async () => {
  const { app, exhaust, clock } = await limitedApp();
  const port = await listen(app);
  const upgrade = (authorization: string) =>
    `GET /ws/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${authorization}\r\nConnection: Upgrade\r\n` +
    'Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';
  const own = `Bearer ${secretOf('user')}`;
  const opened = exchange(port, upgrade(own));
  await eventually(() => app.sockets.size === 1);
  app.sockets.terminate();
  assert.match(await opened, /^HTTP\/1\.1 101 [^]*\r\nx-ratelimit-remaining-minute: 29\r\n/u);
  await exhaust();
  const refused = await exchange(port, upgrade(own));
  assert.match(refused, /^HTTP\/1\.1 429 Too Many Requests\r\n[^]*\r\nretry-after: 10\r\n/u);
  assert.match(refused, /\r\nx-ratelimit-remaining-minute: 20\r\n[^]*"retry_after":10/u);
  for (let count = 0; count < 10; count += 1) {
    assert.match(await exchange(port, upgrade('Bearer guess')), /^HTTP\/1\.1 401 [^]*x-ratelimit-remaining-hour: 49/u);
  }
  assert.match(await exchange(port, upgrade('Bearer guess')), /^HTTP\/1\.1 429 /u);
  clock.pass(10_000);
  const client = await openSocket(port);
  assert.deepEqual(await client.ping(), []);
  app.sockets.terminate();
  await app.close();
});
