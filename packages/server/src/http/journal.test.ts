import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultBounds, operations, type Operation } from '@sallyport/protocol';
import { createJournal } from '../engine/journal.ts';
import { HandClock } from '../testing/limiter.ts';
import { limitedApp } from './rate-support.ts';
import { openSocket, socketApp } from './socket-support.ts';
import { bearer, eventually, exchange, listen, memoryJournal, principalOf, secretOf, testApp } from './testing.ts';

const limit = { timeout: 30_000 };
const models = '/api/claude/models';
const table = Object.values<Operation>(operations(defaultBounds));
const pathOf = ({ path }: Operation): string => path.replaceAll(/\{\w+(\.\.\.)?\}/g, 'x');

/** A journal whose log fails, or waits, as a test says. */
function brokenJournal(failure: Error | null = new Error('canary')) {
  const state = { failure, wait: Promise.resolve(), calls: 0 };
  const append = async () => {
    state.calls += 1;
    await state.wait;
    if (state.failure) throw state.failure;
  };
  return { state, journal: createJournal({ audit: { append }, clock: new HandClock() }) };
}

const handshake = (authorization: string, more = '') =>
  `GET /ws/a HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: ${authorization}\r\n${more}\r\n`;

test('who is let in is written down once for each key and address, over HTTP and sockets', limit, async () => {
  const { app, journal } = await testApp({ trustedProxies: ['127.0.0.1'] });
  const port = await listen(app);
  for (const role of ['user', 'admin', 'user'] as const) {
    for (const from of ['10.0.0.1', '10.0.0.2']) {
      const headers = { ...bearer(role), 'x-forwarded-for': from };
      assert.equal((await app.inject({ url: models, headers })).statusCode, 200);
      const client = await openSocket(port, '/ws/a', { headers });
      client.socket.terminate();
    }
  }
  assert.deepEqual(
    journal.map(({ action, tenant, actor, subject, details }) => [action, tenant, actor, subject, details]),
    (['user', 'admin'] as const).flatMap((role) =>
      ['10.0.0.1', '10.0.0.2'].map((from) => ['auth.accepted', 'default', role, from, { role }]),
    ),
  );
  await app.close();
});

test('what needs no key is not written down, and neither is who was refused for another reason than its key', async () => {
  const { app, journal } = await testApp();
  for (const url of ['/', '/health', '/livez', '/readyz', '/docs', '/openapi.json', '/nothing']) {
    await app.inject({ url, headers: { authorization: 'Bearer nonsense' } });
  }
  await app.inject({ url: models, headers: { host: 'evil.example' } });
  await app.inject({ url: models, headers: { origin: 'https://evil.example' } });
  await app.inject({ method: 'OPTIONS', url: models });
  assert.deepEqual(journal, []);
  await app.close();
});

test('who is not let in is written down with why, and never with what was sent', limit, async () => {
  const { app, journal } = await testApp();
  const port = await listen(app);
  assert.equal((await app.inject({ url: models })).statusCode, 401);
  await app.inject({ url: models, headers: { authorization: 'Bearer canary-1' } });
  await app.inject({ url: '/api/claude/conversation/x/events?ticket=canary-2' });
  await exchange(port, handshake('Bearer canary-3'));
  await exchange(port, handshake('Basic canary-4'));
  assert.deepEqual(
    journal.map(({ action, tenant, actor, subject, details }) => [action, tenant, actor, subject, details]),
    ['unauthenticated', 'invalid_key', 'invalid_key', 'invalid_key', 'unauthenticated'].map((code) => [
      'auth.refused',
      'default',
      'anonymous',
      '127.0.0.1',
      { code, count: 1 },
    ]),
  );
  assert.doesNotMatch(JSON.stringify(journal), /canary/);
  await app.close();
});

test('whose address is over its limit is told so and not written down', async () => {
  const { app, journal, exhaust } = await limitedApp();
  await exhaust({ headers: { authorization: 'Bearer guess' } });
  assert.equal(journal.length, 10);
  assert.ok(journal.every(({ action }) => action === 'auth.refused'));
  await app.close();
});

test('a right that a key lacks is written down once for each operation, and for sockets', limit, async () => {
  const { app, journal } = await testApp();
  const port = await listen(app);
  const lacking = table.filter(({ right }) => right !== 'public' && right !== 'read');
  for (let round = 0; round < 2; round += 1) {
    for (const operation of lacking) {
      const { method } = operation;
      assert.equal((await app.inject({ method, url: pathOf(operation), headers: bearer('viewer') })).statusCode, 403);
    }
    assert.match(await exchange(port, handshake(`Bearer ${secretOf('viewer')}`)), /^HTTP\/1\.1 403 /);
  }
  const [accepted, ...forbidden] = journal;
  assert.equal(accepted?.action, 'auth.accepted');
  assert.deepEqual(
    forbidden.map(({ action, actor, subject }) => [action, actor, subject]),
    [...lacking.map(({ id }) => id), 'webSocket'].map((id) => ['auth.forbidden', 'viewer', id]),
  );
  await app.close();
});

test('whatever admins read is written down each time, before it is read', async () => {
  const { app, admin, journal } = await testApp();
  const reads = table.filter(({ method, path }) => method === 'GET' && path.startsWith('/api/admin/'));
  assert.ok(reads.length > 3);
  let before: string | undefined;
  admin.audit = async () => {
    before = journal.at(-1)?.action;
    return { items: [], next_cursor: null };
  };
  for (const operation of table.filter(({ right }) => right !== 'public')) {
    for (const method of operation.method === 'GET' ? (['GET', 'HEAD'] as const) : [operation.method]) {
      await app.inject({ method, url: pathOf(operation), headers: bearer('admin') });
    }
  }
  const told = journal.filter(({ action }) => action === 'admin.read');
  assert.deepEqual(
    told.map(({ actor, subject, tenant }) => [tenant, actor, subject]),
    reads.flatMap(({ id }) => [1, 2].map(() => ['default', 'admin', id])),
  );
  assert.equal(before, 'admin.read');
  await app.inject({ url: '/api/admin/audit', headers: bearer('viewer') });
  assert.equal(
    journal.filter(({ action }) => action === 'admin.read').length,
    told.length,
    'who may not read reads nothing',
  );
  await app.close();
});

test('who is over the limit of its key reads nothing that would have to be written down', async () => {
  const { app, admin, journal, exhaust } = await limitedApp();
  admin.stops = async () => [];
  await exhaust({ url: '/api/admin/stops', headers: bearer('admin') });
  assert.equal(journal.filter(({ action }) => action === 'admin.read').length, 10);
  await app.close();
});

test('what cannot be written down does not happen', limit, async () => {
  for (const [failure, status, code] of [
    [new Error('canary'), 503, 'not_ready'],
    [Object.assign(new Error('canary'), { code: 'ENOSPC' }), 507, 'storage_full'],
  ] as const) {
    const { journal, state } = brokenJournal(failure);
    const { app, engine, log } = await testApp({ journal });
    const port = await listen(app);
    const query = { method: 'POST', url: '/api/claude/query', payload: { prompt: 'x' } } as const;
    for (const headers of [bearer('user'), bearer('viewer'), { authorization: 'Bearer guess' }, {}]) {
      const answer = await app.inject({ ...query, headers });
      assert.deepEqual([answer.statusCode, answer.json<{ code: string }>().code], [status, code]);
      assert.equal(answer.headers['www-authenticate'], undefined);
      assert.doesNotMatch(answer.body, /canary/);
    }
    for (const secret of [secretOf('user'), secretOf('viewer'), 'guess']) {
      const answer = await exchange(port, handshake(`Bearer ${secret}`));
      assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} [^]*"code":"${code}"`));
    }
    assert.deepEqual([engine.calls.length, engine.asked.length, app.sockets.size], [0, 0, 0]);
    assert.match(JSON.stringify(log), /canary/);
    state.failure = null;
    assert.equal((await app.inject({ ...query, headers: bearer('user') })).statusCode, 200);
    state.failure = failure;
    assert.equal(
      (await app.inject({ ...query, headers: bearer('user') })).statusCode,
      200,
      'it is written down already',
    );
    const audit = await app.inject({ url: '/api/admin/audit', headers: bearer('admin') });
    assert.equal(audit.statusCode, status);
    await app.close();
  }
});

test('an answer waits for its line', limit, async () => {
  const { journal, state } = brokenJournal(null);
  const { app, engine } = await testApp({ journal });
  const line = Promise.withResolvers<void>();
  state.wait = line.promise;
  let answered = 0;
  const answers = [bearer('user'), bearer('viewer'), {}].map(async (headers) => {
    const answer = await app.inject({ method: 'POST', url: '/api/claude/query', payload: { prompt: 'x' }, headers });
    answered += 1;
    return answer.statusCode;
  });
  await eventually(() => state.calls === 3);
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual([answered, engine.calls.length], [0, 0]);
  line.resolve();
  assert.deepEqual(await Promise.all(answers), [200, 403, 401]);
  await app.close();
});

test('a ticket is written down as the key it was given to', limit, async () => {
  const { app, port, tickets, journal, sockets } = await socketApp();
  const ticket = await tickets.issue(principalOf('user'));
  const client = await openSocket(port, `/ws/a?ticket=${ticket}`, { headers: {} });
  assert.deepEqual(
    journal.map(({ action, actor }) => [action, actor]),
    [['auth.accepted', 'user']],
  );
  client.socket.terminate();
  await eventually(() => sockets.size === 0);
  await app.close();
});

test('a key is written down again after an hour', async () => {
  const clock = new HandClock();
  const { journal, lines } = memoryJournal(clock);
  const { app } = await testApp({ journal });
  for (const wait of [0, 3_599_999, 1]) {
    clock.pass(wait);
    await app.inject({ url: models, headers: bearer('user') });
  }
  assert.equal(lines.length, 2);
  await app.close();
});
