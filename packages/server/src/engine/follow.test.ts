import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startOfLog, type LogEvent, type LogEventBody, type StreamItem } from '@sallyport/protocol';
import { aText, anEnd } from '../testing/turns.ts';
import { systemClock } from './clock.ts';
import { follow } from './follow.ts';
import { LiveLog, type Step } from './live.ts';
import { collect, goesOn, joined, MemoryLog, Side, soon } from './log-support.ts';
import { TurnLog } from './turn-log.ts';

const question: LogEventBody = { type: 'user_message', text: 'q', message_uuid: 'u' };
const tool: LogEventBody = { type: 'tool_end', tool_use_id: 'a', ok: true, summary: '' };

async function turnLog() {
  const store = new MemoryLog();
  const accepted: LogEvent[] = await store.append(store.takeOver(), 0, [question]);
  const side = new Side(store, accepted);
  await side.log.begin();
  return { store, side, log: side.log };
}

const textOf = (items: readonly StreamItem[]) => joined(items).content;

test('a follower from the start, one in mid-block and one after the end read the same text', async () => {
  const { log, side } = await turnLog();
  const early = collect(side.read());
  log.delta('text', 'Hel');
  log.delta('text', 'lo 😀');
  await soon();
  const middle = collect(side.read());
  await log.append(aText('Hello 😀, world'));
  void log.append(tool);
  log.delta('text', 'again');
  await log.append(aText('again'));
  await log.finish(anEnd);
  const late = await collect(side.read());
  for (const items of [await early, await middle, late]) {
    assert.equal(textOf(items), 'Hello 😀, worldagain');
    assert.equal(items.at(-1)?.event.type, 'result');
    assert.equal(items.filter(({ event }) => event.type === 'tool_end').length, 1);
    assert.ok(goesOn(items));
  }
});

test('a reader that is too slow loses nothing, and what waits for it is bounded', async () => {
  const { log, side } = await turnLog();
  const reader = side.read();
  await reader.next(); // The user's message: the reader is subscribed now and then rests.
  let whole = '';
  for (let piece = 0; piece < 3000; piece += 1) {
    log.delta('text', `${piece},`);
    whole += `${piece},`;
  }
  await log.append(aText(whole));
  const rest = collect(reader);
  await log.finish(anEnd);
  const items = await rest;
  assert.equal(textOf(items), whole);
  assert.ok(items.length < 1000, 'missed pieces come together');
});

test('a reader that rested over the end of a block takes nothing of the next one for it', async () => {
  const { log, side } = await turnLog();
  log.delta('text', 'Hello');
  const reader = side.read();
  const items = [(await reader.next()).value as StreamItem];
  // It has the last page of the log in its hands while the log goes on.
  await log.append(aText('Hello.'));
  log.delta('text', ' And more of it');
  items.push((await reader.next()).value as StreamItem);
  log.delta('text', ' follows.');
  await log.append(aText(' And more of it follows.'));
  await log.finish(anEnd);
  items.push(...(await collect(reader)));
  assert.equal(textOf(items), 'Hello. And more of it follows.');
  assert.ok(goesOn(items));
});

test('a follower between two turns gets the message of the second before its answer', async () => {
  const store = new MemoryLog();
  const live = new LiveLog();
  const items: StreamItem[] = [];
  const reading = (async () => {
    const isLast = ({ body }: LogEvent) => body.type === 'result';
    const followed = { store, tenant: 'default', conversation: 'conv-1', live, wait: true, first: false, isLast };
    for await (const item of follow(followed, { seq: 0, chars: 0 })) items.push(item);
  })();
  await soon();
  await soon();
  const ref = store.takeOver();
  const log = new TurnLog(store, systemClock, ref, live, { actor: 'key', configuration: 'c' });
  for (const event of await store.append(ref, 0, [question])) live.event(event);
  log.delta('text', 'The answer');
  await soon();
  assert.deepEqual(
    items.map(({ event, cursor }) => [event.type, cursor]),
    [
      ['user_message', { seq: 1, chars: 0 }],
      ['text_delta', { seq: 1, chars: 10 }],
    ],
  );
  await log.append(aText('The answer'));
  await log.finish(anEnd);
  await reading;
});

test('two hundred followers share every item, also those that came in the middle or were too slow', async () => {
  const { log, side } = await turnLog();
  const own: StreamItem[][] = [];
  const join = (count: number) =>
    Array.from({ length: count }, async () => {
      const items: StreamItem[] = [];
      own.push(items);
      for await (const item of side.read(startOfLog, true, false)) items.push(item);
    });
  const readers = join(150);
  const slow = side.read(startOfLog, true, false);
  await slow.next();
  for (let piece = 0; piece < 5; piece += 1) {
    log.delta('text', `${piece},`);
    await soon();
  }
  readers.push(...join(50));
  for (let rounds = 0; rounds < 3; rounds += 1) await soon();
  const inStep = own.map((items) => items.length);
  for (let piece = 5; piece < 700; piece += 1) {
    log.delta('text', `${piece},`);
    if (piece % 100 === 0) await soon();
  }
  await log.append(aText(Array.from({ length: 700 }, (_, piece) => `${piece},`).join('')));
  const late = collect(slow);
  for (let rounds = 0; rounds < 3; rounds += 1) await soon();
  await log.append(tool);
  await log.finish(anEnd);
  await Promise.all(readers);
  const fresh = new Set(own.flatMap((items, reader) => items.slice(inStep[reader])));
  assert.equal(own.length, 200);
  const [first = []] = own.map((items, reader) => items.slice(inStep[reader]));
  assert.equal(fresh.size, first.length, 'one object for each event, whoever reads it');
  assert.ok(first.length < 695 && own.every((items) => textOf(items) === textOf(own[0] ?? [])));
  assert.ok(
    (await late).some((item) => fresh.has(item)),
    'who was too slow shares again when it has caught up',
  );
});

test('what others have written meanwhile is read before what is published', async () => {
  const { log, side, store } = await turnLog();
  const readers = [collect(side.read()), collect(side.read())];
  await soon();
  await soon();
  await store.append(side.ref, 0, [aText('theirs, ')]);
  await log.append(aText('ours'));
  await log.finish(anEnd);
  for (const items of await Promise.all(readers)) assert.equal(textOf(items), 'theirs, ours');
});

test('a log that begins anew under the same name is followed from its beginning', async () => {
  const live = new LiveLog();
  live.event({ seq: 7, turn: 't', at: 0, body: question });
  const steps: Step[] = [];
  live.subscribe({ told: (step) => steps.push(step), ended: () => undefined }, true);
  live.event({ seq: 1, turn: 't', at: 0, body: question });
  live.delta('text', 'x');
  live.end();
  assert.deepEqual(
    steps.map(({ from }) => from),
    [
      { seq: 0, chars: 0 },
      { seq: 1, chars: 0 },
    ],
  );
});

test('followers are told when the end cannot be stored', async () => {
  const { log, side } = await turnLog();
  const waiting = collect(side.read());
  log.live.fail(new Error('not stored'));
  await assert.rejects(waiting, /not stored/u);
  await assert.rejects(collect(side.read()), /not stored/u);
});

test('where a turn stands is told to who follows and to who comes, once, and is no part of the log', async () => {
  const { log, side, store } = await turnLog();
  const standing = (items: readonly StreamItem[]) =>
    items.flatMap(({ event }) => (event.type === 'status' ? [event.place ?? event.status] : []));
  const early = collect(side.read());
  await soon();
  log.status({ status: 'queued', place: 2 });
  await soon();
  const middle = side.read();
  assert.equal((await middle.next()).value?.event.type, 'user_message');
  log.status({ status: 'queued', place: 1 });
  const late = collect(side.read());
  const rest = collect(middle);
  await soon();
  log.status({ status: 'running' });
  const last = collect(side.read());
  log.delta('text', 'Hel');
  await log.append(aText('Hello'));
  await log.finish(anEnd);
  const all = [await early, await late, await last, await collect(side.read())];
  assert.deepEqual(all.map(standing), [[2, 1, 'running'], [1, 'running'], [], []]);
  assert.deepEqual(standing(await rest), [2, 1, 'running']);
  for (const items of all) assert.ok(textOf(items) === 'Hello' && goesOn(items));
  assert.ok(store.events.every(({ body: { type } }) => ['user_message', 'text', 'result'].includes(type)));
});

test('where a turn stands is not told where a client would keep text by it that is told again', async () => {
  const { log, side } = await turnLog();
  const reading = collect(side.read());
  await log.recover([{ type: 'restart' }, aText('kept')]);
  log.status({ status: 'queued', place: 1 });
  await log.append({ type: 'restart' });
  await log.append(tool);
  for (let round = 0; round < 4; round += 1) await soon();
  log.status({ status: 'running' });
  await log.finish(anEnd);
  const items = await reading;
  assert.equal(textOf(items), 'kept');
  assert.deepEqual(
    items.map(({ event }) => event.type),
    ['user_message', 'restart', 'text_delta', 'restart', 'text_delta', 'tool_end', 'status', 'result'],
  );
});

/** Resolves when whatever was published has reached everybody. */
const calm = async () => {
  for (let round = 0; round < 3; round += 1) await soon();
};

test('a reader that has enough is told no more, reads the log for what it missed, and not when it missed nothing', async () => {
  const { log, side, store } = await turnLog();
  const items: StreamItem[] = [];
  let enough = false;
  const isLast = ({ body }: LogEvent) => body.type === 'result';
  const { live } = side;
  let reads = 0;
  const read: MemoryLog['read'] = (...how) => {
    reads += 1;
    return store.read(...how);
  };
  const followed = { store: { read }, tenant: 'default', conversation: 'conv-1', live, wait: true, isLast };
  let over = false;
  const following = follow(followed, startOfLog).follow({
    take: (item) => {
      items.push(item);
      return !enough;
    },
    end: () => (over = true),
    fail: assert.fail,
  });
  await calm();
  enough = true;
  log.delta('text', 'a');
  await calm();
  assert.deepEqual([textOf(items), reads], ['a', 1]);
  following.goOn();
  log.delta('text', 'b');
  await calm();
  assert.deepEqual([textOf(items), reads], ['ab', 1], 'it has missed nothing');
  for (const piece of ['c', 'd']) log.delta('text', piece);
  await log.append(aText('abcd'));
  await calm();
  assert.equal(textOf(items), 'ab');
  enough = false;
  following.goOn();
  await calm();
  assert.deepEqual([textOf(items), reads], ['abcd', 2]);
  await log.finish(anEnd);
  await calm();
  assert.ok(over && goesOn(items));
});
