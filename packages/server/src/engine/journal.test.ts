import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createJournal } from './journal.ts';
import { MovedClock } from './keys-support.ts';
import type { AuditEntry } from './ports.ts';
import type { Principal } from './principal.ts';

const user: Principal = { tenant: 'acme', key: 'k', secretHash: null, role: 'user', narrowing: null, expiresAt: null };
const hour = 3_600_000;

/** A journal over a log in memory, which fails or waits as a test says. */
function made() {
  const clock = new MovedClock();
  const lines: AuditEntry[] = [];
  const log = { failure: null as Error | null, wait: Promise.resolve() };
  const append = async (entries: readonly AuditEntry[]) => {
    await log.wait;
    if (log.failure) throw log.failure;
    lines.push(...entries);
  };
  return { clock, lines, log, journal: createJournal({ audit: { append }, clock }) };
}

test('each thing has a line of its own kind', async () => {
  const { journal, lines, clock } = made();
  await journal.accepted(user, '10.0.0.1');
  await journal.refused('10.0.0.2', 'invalid_key');
  await journal.forbidden(user, 'readAudit');
  await journal.read({ ...user, role: 'admin' }, 'listKeys');
  const common = { at: clock.now(), ref: null };
  const acme = { ...common, tenant: 'acme', actor: 'k' };
  assert.deepEqual(lines, [
    { ...acme, action: 'auth.accepted', subject: '10.0.0.1', details: { role: 'user' } },
    {
      ...common,
      tenant: 'default',
      actor: 'anonymous',
      action: 'auth.refused',
      subject: '10.0.0.2',
      details: { code: 'invalid_key', count: 1 },
    },
    { ...acme, action: 'auth.forbidden', subject: 'readAudit', details: { role: 'user' } },
    { ...acme, action: 'admin.read', subject: 'listKeys', details: {} },
  ]);
});

test('a key is told once an hour for each address, and a right it lacks once an hour for each operation', async () => {
  const { journal, lines, clock } = made();
  const rounds = async () => {
    for (let round = 0; round < 3; round += 1) {
      for (const who of [user, { ...user, key: 'other' }, { ...user, tenant: 'other' }]) {
        for (const text of ['a', 'b']) {
          await journal.accepted(who, text);
          await journal.forbidden(who, text);
        }
      }
    }
  };
  await rounds();
  assert.equal(lines.length, 12);
  clock.pass(hour - 1);
  await rounds();
  assert.equal(lines.length, 12, 'asking does not make the hour longer or shorter');
  clock.pass(1);
  await rounds();
  assert.equal(lines.length, 24);
  for (let count = 0; count < 5; count += 1) await journal.read(user, 'readAudit');
  assert.equal(lines.length, 29, 'every reading is told');
});

test('names that run into each other are told apart', async () => {
  const { journal, lines } = made();
  await journal.accepted({ ...user, tenant: 'a","b', key: 'c' }, 'd');
  await journal.accepted({ ...user, tenant: 'a', key: 'b","c' }, 'd');
  await journal.accepted({ ...user, tenant: 'a', key: 'b' }, 'c","d');
  assert.equal(lines.length, 3);
});

test('memory is bounded: of very many the latest are remembered', async () => {
  const { journal, lines } = made();
  for (let count = 0; count < 10_001; count += 1) {
    await journal.accepted(user, String(count));
    await journal.accepted(user, '1'); // which is asked for all the time
  }
  assert.equal(lines.length, 10_001);
  await journal.accepted(user, '10000');
  await journal.accepted(user, '1');
  assert.equal(lines.length, 10_001);
  await journal.accepted(user, '0');
  assert.equal(lines.length, 10_002);
});

test('whoever is let in at the same time waits for the same line', async () => {
  const { journal, lines, log } = made();
  const { promise, resolve } = Promise.withResolvers<void>();
  log.wait = promise;
  let resolved = 0;
  const calls = Array.from({ length: 5 }, () => journal.accepted(user, 'a').then(() => (resolved += 1)));
  await new Promise((done) => setImmediate(done));
  assert.equal(resolved, 0);
  resolve();
  await Promise.all(calls);
  assert.equal(lines.length, 1);
});

test('what cannot be written down rejects, and is tried again by the next call', async () => {
  const { journal, lines, log } = made();
  const calls = [
    () => journal.accepted(user, 'a'),
    () => journal.refused('a', 'unauthenticated'),
    () => journal.forbidden(user, 'stop'),
    () => journal.read(user, 'readAudit'),
  ];
  for (const [failure, code] of [
    [new Error('boom'), 'not_ready'],
    [Object.assign(new Error('full'), { code: 'ENOSPC' }), 'storage_full'],
  ] as const) {
    log.failure = failure;
    for (const call of calls) {
      const results = await Promise.allSettled([call(), call()]);
      for (const result of results) assert.equal((result as { reason?: { code: string } }).reason?.code, code);
    }
  }
  assert.equal(lines.length, 0);
  log.failure = null;
  for (const call of calls) await call();
  assert.deepEqual(
    lines.map(({ action, details }) => [action, details['count']]),
    [
      ['auth.accepted', undefined],
      ['auth.refused', 5],
      ['auth.forbidden', undefined],
      ['admin.read', undefined],
    ],
  );
});

test('of many refusals ten have a line in any ten seconds, and the next line has the number of the others', async () => {
  const { journal, lines, clock } = made();
  const counts = () => lines.splice(0).map(({ details, subject }) => [subject, details['count']]);
  const ten = Array.from({ length: 10 }, (_, index) => [`a${index}`, 1]);
  for (let count = 0; count < 1000; count += 1) await journal.refused(`a${count}`, 'invalid_key');
  assert.deepEqual(counts(), ten);
  clock.pass(9_999);
  await journal.refused('b', 'invalid_key');
  assert.deepEqual(counts(), []);
  clock.pass(1);
  await journal.refused('c', 'unauthenticated');
  assert.deepEqual(counts(), [['c', 992]]);
  for (let count = 0; count < 20; count += 1) await journal.refused('d', 'invalid_key');
  assert.deepEqual(
    counts(),
    Array.from({ length: 9 }, () => ['d', 1]),
  );
  clock.pass(hour);
  await journal.refused('e', 'invalid_key');
  assert.deepEqual(counts(), [['e', 12]], 'however much later');
});

test('no refusal is lost or told twice, whatever fails and whenever', async () => {
  const { journal, lines, clock, log } = made();
  const refused = 600;
  for (let count = 0; count < refused; count += 50) {
    log.failure = count % 100 === 0 ? new Error('boom') : null;
    await Promise.allSettled(Array.from({ length: 50 }, () => journal.refused('a', 'invalid_key')));
    clock.pass(3_000);
  }
  log.failure = null;
  clock.pass(10_000);
  await journal.refused('a', 'invalid_key');
  const told = lines.reduce((sum, { details }) => sum + Number(details['count']), 0);
  assert.equal(told, refused + 1);
});
