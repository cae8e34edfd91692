import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { errorBody, socketProtocol, socketTicketPrefix } from '@sallyport/protocol';
import { WebSocket } from 'ws';
import { openSocket, socketApp } from './socket-support.ts';
import { bearer, eventually, exchange, principalOf, roles, secretOf } from './testing.ts';

const limit = { timeout: 20_000 };
const paths = ['/ws/', '/api/claude/ws/'];
const key = 'dGhlIHNhbXBsZSBub25jZQ==';
const handshake = {
  upgrade: 'websocket',
  connection: 'Upgrade',
  'sec-websocket-version': '13',
  'sec-websocket-key': key,
};
const user = { authorization: `Bearer ${secretOf('user')}` };

const head = (path: string, headers: Readonly<Record<string, string>>): string =>
  `GET ${path} HTTP/1.1\r\n${Object.entries(headers)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('')}\r\n`;
const ask = (path: string, headers: Readonly<Record<string, string>>): string =>
  head(path, { host: 'localhost', ...handshake, ...headers });

/** Reads a refusal: it is a whole answer over HTTP, and the connection ends with it. */
function refusal(answer: string) {
  const [start = '', body = ''] = answer.split('\r\n\r\n');
  const [line = '', ...lines] = start.split('\r\n');
  const headers = new Map(lines.map((text) => [text.split(': ')[0]?.toLowerCase() ?? '', text.split(': ')[1] ?? '']));
  const error = errorBody.parse(JSON.parse(body));
  assert.equal(headers.get('content-length'), String(Buffer.byteLength(body)));
  assert.equal(headers.get('connection'), 'close');
  assert.equal(headers.get('x-request-id'), error.request_id);
  assert.equal(headers.get('x-content-type-options'), 'nosniff');
  assert.equal(headers.get('www-authenticate'), line.includes(' 401 ') ? 'Bearer' : undefined);
  return { status: Number(line.split(' ')[1]), code: error.code, error };
}

const refused: [string, number, string, (path: string) => string][] = [
  ['no key', 401, 'unauthenticated', (path) => ask(`${path}a`, {})],
  ['an empty key', 401, 'unauthenticated', (path) => ask(`${path}a`, { authorization: 'Bearer ' })],
  ['another scheme', 401, 'unauthenticated', (path) => ask(`${path}a`, { authorization: 'Basic eDp5' })],
  ['a key in the address', 401, 'unauthenticated', (path) => ask(`${path}a?key=${secretOf('user')}`, {})],
  ['an unknown key', 401, 'invalid_key', (path) => ask(`${path}a`, { authorization: 'Bearer nonsense' })],
  ['a key as a ticket', 401, 'invalid_key', (path) => ask(`${path}a?ticket=${secretOf('user')}`, {})],
  ['an empty ticket', 401, 'unauthenticated', (path) => ask(`${path}a?ticket=`, {})],
  ['a made-up ticket', 401, 'invalid_key', (path) => ask(`${path}a?ticket=ticket-x`, {})],
  ['two tickets', 401, 'unauthenticated', (path) => ask(`${path}a?ticket=x&ticket=y`, {})],
  ['a broken escape as ticket', 401, 'invalid_key', (path) => ask(`${path}a?ticket=%ff%`, {})],
  [
    'a made-up ticket as subprotocol',
    401,
    'invalid_key',
    (path) => ask(`${path}a`, { 'sec-websocket-protocol': `${socketProtocol}, ${socketTicketPrefix}x` }),
  ],
  ['a viewer', 403, 'forbidden', (path) => ask(`${path}a`, { authorization: `Bearer ${secretOf('viewer')}` })],
  ['an operator', 403, 'forbidden', (path) => ask(`${path}a`, { authorization: `Bearer ${secretOf('operator')}` })],
  [
    'a foreign origin',
    403,
    'origin_not_allowed',
    (path) => ask(`${path}a`, { ...user, origin: 'https://evil.example' }),
  ],
  ['the origin null', 403, 'origin_not_allowed', (path) => ask(`${path}a`, { ...user, origin: 'null' })],
  [
    'another port of this host',
    403,
    'origin_not_allowed',
    (path) => ask(`${path}a`, { ...user, origin: 'http://localhost:1' }),
  ],
  ['a foreign host', 421, 'host_not_allowed', (path) => ask(`${path}a`, { ...user, host: 'evil.example' })],
  ['no host', 421, 'host_not_allowed', (path) => head(`${path}a`, { ...handshake, ...user })],
  ['no label', 422, 'validation_failed', (path) => ask(path, user)],
  ['a label that is too long', 422, 'validation_failed', (path) => ask(`${path}${'x'.repeat(101)}`, user)],
  ['an escaped slash', 422, 'validation_failed', (path) => ask(`${path}a%2Fb`, user)],
  ['a space', 422, 'validation_failed', (path) => ask(`${path}a%20b`, user)],
  ['a broken escape', 422, 'validation_failed', (path) => ask(`${path}%ff`, user)],
  ['a letter beyond ASCII', 422, 'validation_failed', (path) => ask(`${path}%C3%A4`, user)],
  ['a newline', 422, 'validation_failed', (path) => ask(`${path}a%0A`, user)],
  ['no key of the protocol', 400, 'bad_request', (path) => ask(`${path}a`, { ...user, 'sec-websocket-key': 'x' })],
  ['another version', 400, 'bad_request', (path) => ask(`${path}a`, { ...user, 'sec-websocket-version': '7' })],
  ['no subprotocol', 400, 'bad_request', (path) => ask(`${path}a`, { ...user, 'sec-websocket-protocol': 'a,,b' })],
];

for (const [who, status, code, request] of refused) {
  test(`${who} is refused over HTTP before there is a socket`, limit, async () => {
    const { app, port, engine, sockets } = await socketApp();
    for (const path of paths) {
      const answer = await exchange(port, request(path));
      const told = refusal(answer);
      assert.deepEqual([told.status, told.code], [status, code], path);
      assert.doesNotMatch(answer, /HTTP\/1\.1 101|secret-of|nonsense/u);
    }
    assert.deepEqual([sockets.size, engine.asked.length], [0, 0]);
    await app.close();
  });
}

test('a service that closes opens no socket', limit, async () => {
  const { app, port, closing, tickets } = await socketApp();
  closing.now = true;
  assert.equal(refusal(await exchange(port, ask('/ws/a', user))).code, 'not_ready');
  closing.now = false;
  const ticket = await tickets.issue(principalOf('user'));
  const late = exchange(port, ask(`/ws/a?ticket=${ticket}`, {}));
  await new Promise((resolve) => app.server.once('upgrade', resolve));
  closing.now = true; // while the ticket is looked up
  assert.equal(refusal(await late).code, 'not_ready');
  await app.close();
});

test('the keys that may run open a socket, from anywhere a client may come from', limit, async () => {
  const { app, port, sockets } = await socketApp();
  const from = [{}, { origin: 'http://localhost:3000' }, { origin: `http://127.0.0.1:${port}` }];
  for (const role of roles.filter((name) => name === 'admin' || name === 'user')) {
    for (const path of paths) {
      for (const headers of from) {
        const client = await openSocket(port, `${path}A-z.0:_${'x'.repeat(90)}`, {
          headers: { ...bearer(role), ...headers },
        });
        assert.deepEqual(await client.ping(), []);
        client.socket.close();
      }
    }
  }
  const escaped = await openSocket(port, '/ws/a%3Ab');
  escaped.socket.close();
  await eventually(() => sockets.size === 0);
  await app.close();
});

test('a ticket opens one socket, in the address or as a subprotocol, and is nowhere in the log', limit, async () => {
  const { app, port, tickets, log, engine } = await socketApp();
  const principal = principalOf('user');
  const used: string[] = [];
  for (const offer of [false, true]) {
    const ticket = await tickets.issue(principal);
    used.push(ticket);
    const url = `ws://127.0.0.1:${port}/ws/a`;
    const open = () =>
      offer
        ? new WebSocket(url, [socketProtocol, `${socketTicketPrefix}${ticket}`])
        : new WebSocket(`${url}?ticket=${ticket}`);
    const socket = open();
    await once(socket, 'open');
    assert.equal(socket.protocol, offer ? socketProtocol : '');
    socket.send('{"type":"resume","session_id":"conv-1"}');
    await once(socket, 'message');
    assert.deepEqual(engine.asked.at(-1)?.principal, principal);
    socket.close();
    const [error] = (await once(open(), 'error')) as [Error];
    assert.match(error.message, /401/u, 'the second use is refused');
  }
  const viewer = await tickets.issue(principalOf('viewer'));
  assert.equal(refusal(await exchange(port, ask(`/ws/a?ticket=${viewer}`, {}))).code, 'forbidden');
  const gone = await tickets.issue(principalOf('user', { key: 'no longer' }));
  assert.equal(refusal(await exchange(port, ask(`/ws/a?ticket=${gone}`, {}))).code, 'invalid_key');
  const text = JSON.stringify(log);
  assert.ok(log.length > 0);
  for (const secret of [...used, viewer, gone]) assert.ok(!text.includes(secret));
  await app.close();
});

test('every request for a socket, refused or not, is one line of the log', limit, async () => {
  const { app, port, log, sockets } = await socketApp();
  const lines = (msg: string) => log.filter((line) => line['msg'] === msg);
  await exchange(port, ask('/ws/a?ticket=x', { 'x-request-id': 'mine-1' }));
  await exchange(port, ask('/api/claude/ws/a', { ...user, 'sec-websocket-key': 'x', 'x-request-id': 'mine-2' }));
  const client = await openSocket(port, '/ws/my-label', { headers: { ...bearer('user'), 'x-request-id': 'mine-3' } });
  client.socket.close();
  await eventually(() => sockets.size === 0 && lines('socket closed').length === 1);
  assert.deepEqual(
    lines('request').map(({ request_id, route, status, code }) => [request_id, route, status, code]),
    [
      ['mine-1', '/ws/:connection_id', 401, 'invalid_key'],
      ['mine-2', '/api/claude/ws/:connection_id', 400, 'bad_request'],
      ['mine-3', '/ws/:connection_id', 101, undefined],
    ],
  );
  const [closed] = lines('socket closed');
  assert.deepEqual([closed?.['connection_id'], closed?.['by'], closed?.['code']], ['my-label', 'user', 1005]);
  await app.close();
});

test('no other wish to upgrade disturbs a request', limit, async () => {
  const { app, port } = await socketApp();
  const json = 'Content-Type: application/json\r\nContent-Length: 9\r\n';
  const post = (headers: string) =>
    exchange(port, `POST /echo HTTP/1.1\r\nHost: localhost\r\n${json}${headers}\r\n{"a":[1]}`);
  assert.match(await post('Connection: close\r\n'), /^HTTP\/1\.1 200 .*"a":\[1\]/su);
  for (const upgrade of ['h2c', 'websocket', 'TLS/1.0, HTTP/1.1']) {
    const headers = `Connection: Upgrade, close\r\nUpgrade: ${upgrade}\r\n`;
    assert.match(await post(headers), /^HTTP\/1\.1 200 .*"a":\[1\]/su, upgrade);
  }
  for (const path of ['/', '/ws', '/ws/a/b', '/wsx/a', '/api/claude/ws', '/api/ws/a', '//ws/a']) {
    const answer = await exchange(port, ask(path, { ...user, connection: 'Upgrade, close' }));
    assert.match(answer, /^HTTP\/1\.1 404 /u, path);
  }
  await app.close();
});

test('a client that leaves while it is judged leaves nothing', limit, async () => {
  const { app, port, sockets, tickets } = await socketApp();
  for (let round = 0; round < 20; round += 1) {
    const ticket = await tickets.issue(principalOf('user'));
    const socket = new WebSocket(`ws://127.0.0.1:${port}/ws/a?ticket=${ticket}`);
    socket.on('error', () => undefined);
    await new Promise((resolve) => app.server.once('upgrade', resolve));
    socket.terminate();
  }
  await eventually(() => sockets.size === 0);
  assert.deepEqual(await (await openSocket(port)).ping(), []);
  sockets.terminate();
  await app.close();
});
