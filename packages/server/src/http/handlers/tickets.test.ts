import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Clock } from '../../engine/clock.ts';
import {
  bearer,
  exchange,
  keysWith,
  listen,
  memoryTickets,
  principalOf,
  secretOf,
  testApp,
  type TestApp,
} from '../testing.ts';

const limit = { timeout: 20_000 };
const events = '/api/claude/conversation/conv-1/events';

async function ticketOf({ app }: TestApp, headers = bearer('user')): Promise<string> {
  const answer = await app.inject({ method: 'POST', url: '/api/claude/ws-ticket', headers });
  assert.equal(answer.statusCode, 200);
  assert.equal(answer.headers['cache-control'], 'no-store');
  const body = answer.json<{ ticket: string; expires_in: number }>();
  assert.deepEqual(Object.keys(body), ['ticket', 'expires_in']);
  assert.equal(body.expires_in, 30);
  assert.match(body.ticket, /^ticket-[\w-]{43}$/);
  return body.ticket;
}

test('a ticket opens the events of a conversation once, as the key it was given to', async () => {
  const made = await testApp();
  const { app, engine } = made;
  const ticket = await ticketOf(made);
  const answer = await app.inject({ url: `${events}?follow=false&ticket=${ticket}&after=1.0` });
  assert.equal(answer.statusCode, 200, answer.body);
  assert.match(answer.body, /\[DONE\]/);
  assert.deepEqual(engine.asked.at(-1)?.principal, principalOf('user'));
  const again = await app.inject({ url: `${events}?ticket=${ticket}` });
  assert.deepEqual([again.statusCode, again.json<{ code: string }>().code], [401, 'invalid_key']);
  assert.equal(engine.asked.length, 1);
  await app.close();
});

test('one ticket that is used many times at once lets one in', async () => {
  const made = await testApp();
  const ticket = await ticketOf(made);
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => made.app.inject({ url: `${events}?ticket=${ticket}` })),
  );
  assert.deepEqual(
    answers.map(({ statusCode }) => statusCode).toSorted((a, b) => a - b),
    [200, ...Array<number>(19).fill(401)],
  );
  await made.app.close();
});

test('what is no ticket, or is too old, opens nothing', async () => {
  let now = 1_000_000;
  const clock: Clock = { now: () => now, monotonic: () => now };
  const made = await testApp({ tickets: memoryTickets(clock) });
  const { app, engine } = made;
  const old = await ticketOf(made);
  now += 30_000;
  for (const [query, code] of [
    [`ticket=${old}`, 'invalid_key'],
    ['ticket=', 'invalid_key'],
    ['ticket=x', 'invalid_key'],
    [`ticket=${secretOf('user')}`, 'invalid_key'],
    [`ticket=${'x'.repeat(5000)}`, 'invalid_key'],
    ['ticket=%00', 'invalid_key'],
    ['ticket=a&ticket=b', 'unauthenticated'],
    ['ticket[]=a', 'unauthenticated'],
    ['Ticket=a', 'unauthenticated'],
    ['token=a', 'unauthenticated'],
  ] as const) {
    const answer = await app.inject({ url: `${events}?${query}` });
    assert.equal(answer.statusCode, 401, query);
    assert.equal(answer.json<{ code: string }>().code, code, query);
    assert.equal(answer.headers['www-authenticate'], 'Bearer');
  }
  assert.equal(engine.asked.length, 0);
  await app.close();
});

test('the ticket of a key that was revoked is worth nothing', async () => {
  const { keys, headers, revoke } = await keysWith('stored');
  const made = await testApp({ keys });
  const [used, ticket] = [await ticketOf(made, headers), await ticketOf(made, headers)];
  assert.equal((await made.app.inject({ url: `${events}?follow=false&ticket=${used}` })).statusCode, 200);
  made.engine.asked.length = 0;
  await revoke();
  const answer = await made.app.inject({ url: `${events}?ticket=${ticket}` });
  assert.equal(answer.statusCode, 401);
  assert.equal(made.engine.asked.length, 0);
  await made.app.close();
});

test('a key that is sent counts, whatever ticket is beside it', async () => {
  const made = await testApp();
  const ticket = await ticketOf(made);
  const bad = await made.app.inject({ url: `${events}?ticket=${ticket}`, headers: { authorization: 'Bearer x' } });
  assert.equal(bad.statusCode, 401);
  const good = await made.app.inject({ url: `${events}?ticket=x&follow=false`, headers: bearer('viewer') });
  assert.equal(good.statusCode, 200);
  assert.equal((await made.app.inject({ url: `${events}?ticket=${ticket}` })).statusCode, 200, 'it was not used up');
  await made.app.close();
});

test('no ticket reaches the log, however the request ends', limit, async () => {
  const made = await testApp();
  const { app, engine, log } = made;
  const port = await listen(app);
  const tickets: string[] = [];
  const ask = async (rest: string, target = events) => {
    const ticket = await ticketOf(made);
    tickets.push(ticket);
    const line = `GET ${target}?ticket=${ticket}${rest} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`;
    return (await exchange(port, line)).slice(9, 12);
  };
  assert.equal(await ask('&follow=false'), '200');
  assert.equal(await ask('&limit=1'), '422');
  assert.equal(await ask('&after=%zz'), '400');
  assert.equal(await ask('', `${events}/x`), '404');
  assert.equal(await ask('', '/api/claude/models'), '401');
  assert.equal(await ask('', '/%ff'), '400');
  assert.equal(await ask(' x'), '400');
  engine.refusal = new Error('canary');
  assert.equal(await ask(''), '500');
  engine.refusal = null;
  engine.reading = async function* reading() {
    yield* [];
    throw new Error('canary');
  };
  assert.equal(await ask(''), '200');
  const text = JSON.stringify(log);
  assert.match(text, /canary/);
  for (const ticket of tickets) assert.ok(!text.includes(ticket.slice(7)), ticket);
  await app.close();
});
