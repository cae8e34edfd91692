import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LogEventBody } from '@sallyport/protocol';
import { aText, anEnd } from '../testing/turns.ts';
import { collect, joined, MemoryLog, Side, soon } from './log-support.ts';
import { StaleEpochError } from './ports.ts';

function turnLog() {
  const store = new MemoryLog();
  const side = new Side(store);
  return { store, side, log: side.log };
}

const end = (id: string): LogEventBody => ({ type: 'tool_end', tool_use_id: id, ok: true, summary: '' });
const restart: LogEventBody = { type: 'restart' };
/** What the log holds, in short. */
const told = ({ events }: MemoryLog) =>
  events.map(({ body }) =>
    body.type === 'text' ? body.text : body.type === 'tool_end' ? body.tool_use_id : body.type,
  );
const all = async (...work: Promise<unknown>[]) => void (await Promise.all(work));

test('what comes while a block is open waits for its end, and the pieces do not', async () => {
  const { log, side, store } = turnLog();
  const reading = collect(side.read());
  await soon();
  log.delta('text', 'Hel');
  let ended = false;
  const waiting = all(log.append(end('a')), log.append(end('b'))).then(() => (ended = true));
  log.delta('text', 'lo');
  await soon();
  assert.deepEqual([told(store), ended, log.live.openBlock()?.text], [[], false, 'Hello']);
  await all(log.append(aText('Hello')), log.append(end('c')), waiting);
  log.delta('text', 'again');
  await log.append(aText('again'));
  await log.finish(anEnd);
  assert.deepEqual(told(store), ['Hello', 'a', 'b', 'c', 'again', 'result']);
  assert.equal(joined(await reading).content, 'Helloagain');
});

test('what waits for a block that is dropped comes after what stays of those before it', async () => {
  const { log, side, store } = turnLog();
  const reading = collect(side.read());
  const [first, second] = [aText('first'), aText('second')];
  await all(log.append(end('a')), log.append(first), log.append(second));
  log.delta('text', 'lost');
  const waiting = log.append(end('b'));
  await all(log.append(restart), log.append(first), log.append(second), waiting);
  await log.finish(anEnd);
  assert.deepEqual(told(store), ['a', 'first', 'second', 'restart', 'first', 'second', 'b', 'result']);
  assert.equal(joined(await reading).content, 'firstsecond');
});

test('what waits for a block that is dropped comes before the next block', async () => {
  const { log, side, store } = turnLog();
  const reading = collect(side.read());
  log.delta('text', 'lost');
  const waiting = all(log.append(end('a')), log.append(restart));
  log.delta('text', 'next');
  await waiting;
  await log.append(aText('next'));
  await log.finish(anEnd);
  assert.deepEqual(told(store), ['restart', 'a', 'next', 'result']);
  assert.equal(joined(await reading).content, 'next');
});

test('a block that was not withdrawn is not told twice', async () => {
  const { log, side, store } = turnLog();
  const reading = collect(side.read());
  const [first, second] = [aText('first'), aText('second')];
  await all(log.append(first), log.append(end('a')), log.append(second));
  log.delta('text', 'lost');
  await all(log.append(restart), log.append(first), log.append(second));
  await log.finish(anEnd);
  assert.deepEqual(told(store), ['first', 'a', 'second', 'restart', 'second', 'result']);
  assert.equal(joined(await reading).content, 'firstsecond');
});

test('what has waited long goes first, and the open block is told again after it', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const { log, side, store } = turnLog();
  const reading = collect(side.read());
  await soon();
  await soon();
  await log.append(aText('before '));
  log.delta('text', 'long ');
  const waiting = log.append(end('a'));
  context.mock.timers.tick(19_999);
  await soon();
  assert.deepEqual(told(store), ['before ']);
  context.mock.timers.tick(1);
  log.delta('text', 'and ');
  await waiting;
  assert.deepEqual(told(store), ['before ', 'restart', 'before ', 'a']);
  await soon();
  assert.equal(log.live.openBlock()?.text, 'long and ');
  log.delta('text', 'cut');
  await all(log.append(restart));
  log.delta('text', 'once more');
  await log.append(aText('once more'));
  await log.finish(anEnd);
  const items = await reading;
  assert.equal(joined(items).content, 'before once more');
  assert.ok(
    items.some(({ event }) => event.content.endsWith('and ')),
    'the block goes on where it was',
  );
  assert.equal(joined(await collect(side.read())).content, 'before once more');
});

test('an event that somebody else commits has its place among the others and is published', async () => {
  const { log, side, store } = turnLog();
  const reading = collect(side.read());
  log.delta('text', 'Hello');
  const committed = log.commit(async () => {
    const [event = null] = await store.append(side.ref, 0, [end('theirs')]);
    return { event, value: store.events.length };
  });
  await soon();
  await all(log.append(aText('Hello')), log.append(end('ours')));
  assert.equal(await committed, 2);
  await log.finish(anEnd);
  assert.deepEqual(told(store), ['Hello', 'theirs', 'ours', 'result']);
  assert.equal((await reading).filter(({ event }) => event.type === 'tool_end').length, 2);
});

test('work that fails breaks the log as an event does', async () => {
  const { log } = turnLog();
  await assert.rejects(
    log.commit(() => Promise.reject(new Error('disk'))),
    /disk/u,
  );
  await assert.rejects(log.append(end('a')), /disk/u);
});

test('work that commits no event leaves what a restart withdraws', async () => {
  const { log, side, store } = turnLog();
  const reading = collect(side.read());
  const first = aText('first');
  await log.append(first);
  await log.commit(async () => ({ event: null, value: undefined }));
  log.delta('text', 'lost');
  await all(log.append(restart), log.append(first));
  await log.finish(anEnd);
  assert.deepEqual(told(store), ['first', 'restart', 'first', 'result']);
  assert.equal(joined(await reading).content, 'first');
});

test('state and counters are kept in order', async () => {
  const { log, store } = turnLog();
  store.pause = soon;
  const counters = { batches: 1, activeMs: 5 };
  await all(log.append(end('a'), 'waiting'), log.count(counters), log.append(end('b'), 'running'));
  assert.deepEqual(store.notes, ['waiting', counters, 'running']);
});

test('the end commits what waits before it, and withdraws a block that never ended', async () => {
  const { log, side, store } = turnLog();
  const reading = collect(side.read());
  void log.append(aText('kept'));
  log.delta('text', 'never ended');
  const waiting = log.append(end('a'));
  await all(log.finish(anEnd), waiting);
  assert.deepEqual(told(store), ['kept', 'restart', 'kept', 'a', 'result']);
  assert.equal(joined(await reading).content, 'kept');
});

test('after an event that could not be committed nothing is, but the end still can be', async () => {
  const { log, side, store } = turnLog();
  const reading = collect(side.read());
  log.delta('text', 'lost');
  const waiting = assert.rejects(log.append(end('a')), /disk/u);
  store.pause = () => Promise.reject(new Error('disk'));
  await all(assert.rejects(log.append(aText('lost')), /disk/u), waiting);
  store.pause = async () => undefined;
  log.delta('text', 'more');
  await assert.rejects(log.append(end('b')), /disk/u);
  await assert.rejects(log.count({ batches: 1, activeMs: 1 }), /disk/u);
  await log.finish(anEnd);
  assert.deepEqual(told(store), ['restart', 'result']);
  assert.equal(joined(await reading).content, '');
});

test('what waits for the end of a block fails with what fails meanwhile', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const { log, store } = turnLog();
  log.delta('text', 'open');
  const waiting = assert.rejects(log.append(end('a')), /disk/u);
  store.pause = () => Promise.reject(new Error('disk'));
  await assert.rejects(log.count({ batches: 1, activeMs: 1 }), /disk/u);
  await waiting;
});

test('an end that could not be committed can be tried again', async () => {
  const { log, side, store } = turnLog();
  const reading = collect(side.read());
  log.delta('text', 'never ended');
  store.pause = () => Promise.reject(new Error('disk'));
  await assert.rejects(log.finish(anEnd), /disk/u);
  store.pause = async () => undefined;
  await log.finish(anEnd);
  assert.deepEqual(told(store), ['restart', 'result']);
  assert.equal(joined(await reading).content, '');
});

test('a turn ends once', async () => {
  const { log } = turnLog();
  await log.finish(anEnd);
  await assert.rejects(log.finish(anEnd), StaleEpochError);
  await assert.rejects(log.append(aText('late')), StaleEpochError);
});

test('a turn is set to running after what was ready to happen, and before anything else of it is written', async () => {
  const { log, store } = turnLog();
  const happened: string[] = [];
  store.pause = async () => happened.push('write');
  const begun = log.begin().then(() => happened.push('begun'));
  const ended = log.append(end('a')).then(() => happened.push('ended'));
  process.nextTick(() => queueMicrotask(() => happened.push('ready')));
  await all(begun, ended);
  assert.deepEqual(happened, ['ready', 'write', 'begun', 'write', 'ended']);
});

test('blocks that a turn takes over from a process that is gone outlive later restarts', async () => {
  const store = new MemoryLog();
  const lost = new Side(store);
  const seen = collect(lost.read());
  await lost.log.append(aText('stays '));
  lost.log.delta('text', 'lost');
  await soon();
  lost.live.end();
  const side = new Side(store);
  await side.log.begin();
  await side.log.recover([restart, aText('stays ')]);
  side.log.delta('text', 'lost too');
  await side.log.append(restart);
  await side.log.append(aText('and goes on'));
  await side.log.append(end('a'));
  await side.log.finish(anEnd);
  const before = await seen;
  const rest = await collect(side.read(before.at(-1)?.cursor));
  assert.deepEqual(before.at(-1)?.cursor, { seq: 1, chars: 4 });
  assert.equal(joined([...before, ...rest]).content, 'stays and goes on');
  assert.equal(joined(await collect(side.read())).content, 'stays and goes on');
});

test('blocks of a process that is gone outlive an end in mid-block', async () => {
  const { log, store } = turnLog();
  await log.recover([restart, aText('stays')]);
  log.delta('text', 'never ended');
  await log.finish(anEnd);
  assert.deepEqual(told(store), ['restart', 'stays', 'restart', 'stays', 'result']);
});
