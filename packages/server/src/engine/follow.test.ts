import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { startOfLog, type Cursor, type LogEvent, type LogEventBody, type StreamItem } from '@sallyport/protocol';
import { openStores } from '../stores/stores.ts';
import { aText, anAccept, anEnd } from '../testing/turns.ts';
import { systemClock } from './clock.ts';
import { follow } from './follow.ts';
import { LiveLog } from './live.ts';
import { StaleEpochError, type TurnStore } from './ports.ts';
import { TurnLog } from './turn-log.ts';

async function turnLog(context: TestContext, change: (store: TurnStore) => TurnStore = (store) => store) {
  const directory = await mkdtemp(join(tmpdir(), 'sallyport-follow-'));
  const stores = await openStores({ dataDir: directory, clock: systemClock });
  context.after(async () => {
    await stores.close();
    await rm(directory, { recursive: true, force: true });
  });
  const store = change(stores.turns);
  const { ref } = await store.accept(
    anAccept('conv-1', 'default', [{ type: 'user_message', text: 'q', message_uuid: 'u' }]),
  );
  const live = new LiveLog();
  const log = new TurnLog(store, systemClock, ref, live);
  const read = (after: Cursor = startOfLog) =>
    follow({ store, tenant: ref.tenant, conversation: ref.conversation, live, wait: true, isLast }, after);
  await log.begin();
  return { log, read, ref };
}

const isLast = (event: LogEvent) => event.body.type === 'result';

async function collect(items: AsyncIterable<StreamItem>, pause: () => Promise<unknown> = async () => undefined) {
  const all: StreamItem[] = [];
  for await (const item of items) {
    all.push(item);
    await pause();
  }
  return all;
}

const textOf = (items: readonly StreamItem[]) =>
  items.map(({ event }) => (event.type === 'text_delta' ? event.content : '')).join('');
const tool: LogEventBody = {
  type: 'tool_start',
  tool_use_id: 'a',
  message_id: 'm',
  name: 'Read',
  input: {},
  decided_by: 'test',
};

test('a follower from the start, one in mid-block and one after the end read the same text', async (context) => {
  const { log, read } = await turnLog(context);
  const early = collect(read());
  log.delta('text', 'Hel');
  log.delta('text', 'lo 😀');
  await Promise.resolve();
  const middle = collect(read());
  await log.append(aText('Hello 😀, world'));
  void log.append(tool);
  log.delta('text', 'again');
  await log.append(aText('again'));
  await log.finish(anEnd);
  const late = await collect(read());
  const expected = 'Hello 😀, worldagain';
  for (const items of [await early, await middle, late]) {
    assert.equal(textOf(items), expected);
    assert.equal(items.at(-1)?.event.type, 'result');
    assert.equal(items.filter(({ event }) => event.type === 'tool_start').length, 1);
  }
});

test('every cursor that was handed out continues with exactly the rest', async (context) => {
  const { log, read } = await turnLog(context);
  const reading = collect(read());
  for (let block = 0; block < 5; block += 1) {
    for (let piece = 0; piece < 4; piece += 1) {
      log.delta('text', `${block}.${piece} `);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await log.append(aText(`${block}.0 ${block}.1 ${block}.2 ${block}.3 `));
  }
  await log.finish(anEnd);
  const all = await reading;
  assert.ok(all.length > 20, 'pieces arrive one by one');
  for (let cut = 0; cut < all.length - 1; cut += 1) {
    const rest = await collect(read((all[cut] as StreamItem).cursor));
    assert.equal(textOf(all.slice(0, cut + 1)) + textOf(rest), textOf(all));
  }
});

test('a reader that is too slow loses nothing, and what waits for it is bounded', async (context) => {
  const { log, read } = await turnLog(context);
  const reader = read();
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

test('pieces stay behind the event before them', async (context) => {
  const { log, read } = await turnLog(context);
  const reading = collect(read());
  log.delta('text', 'first');
  void log.append(aText('first'));
  log.delta('text', 'second');
  await log.append(aText('second'));
  await log.finish(anEnd);
  assert.equal(textOf(await reading), 'firstsecond');
});

test('after an event that could not be committed nothing is, but the end still can be', async (context) => {
  let failing = false;
  const { log, read } = await turnLog(context, (store) => ({
    ...store,
    append: (...args) => (failing ? Promise.reject(new Error('disk')) : store.append(...args)),
  }));
  failing = true;
  await assert.rejects(log.append(aText('lost')), /disk/u);
  failing = false;
  await assert.rejects(log.append(aText('later')), /disk/u);
  await log.finish(anEnd);
  const items = await collect(read());
  assert.equal(textOf(items), '');
  assert.equal(items.at(-1)?.event.type, 'result');
});

test('followers are told when the end cannot be stored', async (context) => {
  const { log, read } = await turnLog(context);
  const waiting = collect(read());
  log.live.fail(new Error('not stored'));
  await assert.rejects(waiting, /not stored/u);
  await assert.rejects(collect(read()), /not stored/u);
});

test('a turn ends once', async (context) => {
  const { log } = await turnLog(context);
  await log.finish(anEnd);
  await assert.rejects(log.finish(anEnd), StaleEpochError);
  await assert.rejects(log.append(aText('late')), StaleEpochError);
});
