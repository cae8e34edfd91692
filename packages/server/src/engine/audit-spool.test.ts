import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AuditSpool } from './audit-spool.ts';
import type { AuditEntry } from './ports.ts';

const logger = { info() {}, warn() {}, error() {} };
const line = (subject: string): AuditEntry => ({
  at: 0,
  tenant: 'default',
  actor: 'key',
  action: 'test',
  ref: null,
  subject,
  details: {},
});

/** A log that tells what was appended at a time, and fails while it is told to. */
function aLog() {
  const log = {
    fails: false,
    appends: [] as string[][],
    append: async (entries: readonly AuditEntry[]) => {
      if (log.fails) throw new Error('no log');
      log.appends.push(entries.map(({ subject }) => subject ?? ''));
    },
  };
  return log;
}

test('lines of one moment are written together, in order and without anybody waiting', async () => {
  const log = aLog();
  const spool = new AuditSpool(log, logger);
  for (const subject of ['a', 'b', 'c']) await spool.add(line(subject));
  assert.deepEqual(log.appends, []);
  await spool.flush();
  assert.deepEqual(log.appends, [['a', 'b', 'c']]);
  await spool.flush();
  assert.equal(log.appends.length, 1);
});

test('lines are written without being asked for', async () => {
  const log = aLog();
  const written = Promise.withResolvers<void>();
  const append = async (entries: readonly AuditEntry[]) => log.append(entries).then(written.resolve);
  await new AuditSpool({ append }, logger).add(line('a'));
  await written.promise;
  assert.deepEqual(log.appends, [['a']]);
});

test('while they cannot be written nobody is let pass, and what was let pass before is written later', async () => {
  const log = aLog();
  const spool = new AuditSpool(log, logger);
  await spool.add(line('a'));
  log.fails = true;
  await assert.rejects(spool.flush(), /no log/u);
  for (const subject of ['b', 'c']) await assert.rejects(spool.add(line(subject)), /no log/u);
  log.fails = false;
  await spool.add(line('d'));
  assert.deepEqual(log.appends, [['a', 'd']]);
});

test('what was let pass is written once that is possible again, without anybody coming', async (t) => {
  const alive = setInterval(() => {}, 60_000);
  t.after(() => clearInterval(alive));
  const log = aLog();
  const written = Promise.withResolvers<void>();
  let tries = 0;
  const append = async (entries: readonly AuditEntry[]) => {
    log.fails = (tries += 1) === 1;
    await log.append(entries);
    written.resolve();
  };
  await new AuditSpool({ append }, logger).add(line('a'));
  await written.promise;
  assert.deepEqual([tries, log.appends], [2, [['a']]]);
});

test('what gathers is bounded', async () => {
  const log = aLog();
  const spool = new AuditSpool(log, logger);
  log.fails = true;
  const told = await Promise.allSettled(Array.from({ length: 1100 }, (_, number) => spool.add(line(`${number}`))));
  const passed = told.filter(({ status }) => status === 'fulfilled').length;
  assert.equal(passed, 1000);
  log.fails = false;
  await spool.flush();
  assert.equal(log.appends.flat().length, 1000);
});
