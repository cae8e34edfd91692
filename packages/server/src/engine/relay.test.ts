import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startOfLog, type StreamItem } from '@sallyport/protocol';
import { aNext, anAccept, anEnd, aText, aToolStart } from '../testing/turns.ts';
import { SallyportError } from './errors.ts';
import { collect, goesOn, joined, soon } from './log-support.ts';
import { asksChannel, channelOf, toldText, type Told } from './relay-messages.ts';
import { message, twoNodes } from './relay-support.ts';

/** Waits until it holds; the test's own limit ends it otherwise. */
const until = async (holds: () => boolean) => {
  while (!holds()) await soon();
};
const textOf = (items: readonly StreamItem[]) => joined(items).content;

test('text comes to another node as it is said, and events with it', async (t) => {
  const { begin, followed, told, finish } = await twoNodes(t);
  const turn = await begin('c');
  const { log } = turn;
  log.delta('text', 'before anybody came, ');
  const { items, done } = await followed('c');
  await until(() => textOf(items) === 'before anybody came, ');
  for (const piece of ['Hel', 'lo ', '😀'.slice(0, 1), '😀'.slice(1)]) log.delta('text', piece);
  await until(() => textOf(items) === 'before anybody came, Hello 😀');
  assert.deepEqual(items.at(-1)?.cursor, { seq: 1, chars: 29 });
  await log.append(aText('before anybody came, Hello 😀'));
  await log.append(aToolStart({}));
  await until(() => items.at(-1)?.event.type === 'tool_start');
  log.delta('thinking', 'well');
  await until(() => joined(items).thinking === 'well');
  await log.append({ type: 'restart' });
  await until(() => items.at(-1)?.event.type === 'restart');
  await finish(turn);
  await done;
  assert.ok(goesOn(items));
  const pieces = told().filter(({ text }) => (JSON.parse(text) as Told).kind === 'delta');
  assert.deepEqual(
    pieces.slice(1).map(({ text }) => (JSON.parse(text) as { text: string }).text),
    ['Hello 😀', 'well'],
    'pieces of one tick go together',
  );
});

test('nothing is told of what nobody follows elsewhere, nor when nobody has said for long that it does', async (t) => {
  const { begin, followed, told, one, other, later } = await twoNodes(t);
  const { log, ref } = await begin('c');
  const own = one.read({ tenant: 'default', id: 'c', sdkSession: 's', lastSeq: 1 }, startOfLog);
  const read = collect(own);
  log.delta('text', 'a');
  for (let rounds = 0; rounds < 5; rounds += 1) await soon();
  await one.relay.tick();
  assert.deepEqual(told(), []);

  const { items } = await followed('c');
  await until(() => textOf(items) === 'a');
  later(29);
  await one.relay.tick();
  log.delta('text', 'b');
  await until(() => textOf(items) === 'ab');
  other.relay.close(); // the other node is gone without a word
  later(2);
  await one.relay.tick();
  const before = told().length;
  log.delta('text', 'c');
  await log.append(aText('abc'));
  await log.finish(anEnd);
  await read;
  assert.equal(told().length, before);
  one.rest(ref);
});

test('who follows says so again and again, and hears the next turn from its first word, wherever it runs', async (t) => {
  const { stores, begin, followed, finish, one, other, later } = await twoNodes(t);
  const turn = await begin('c');
  const accepted = await followed('c');
  await until(() => accepted.items.length === 1);
  await finish(turn);
  await accepted.done;
  // From the result on, which ends the reading of this test only.
  const conversation = (await stores.conversations.get('default', 'c'))!;
  const items: StreamItem[] = [];
  const reader = other.read(conversation, { seq: conversation.lastSeq, chars: 0 });
  const done = (async () => {
    for await (const item of reader) items.push(item);
  })();
  for (let seconds = 0; seconds < 100; seconds += 1) {
    later(1);
    await one.relay.tick();
    await other.relay.tick();
    await soon();
  }
  const next = await stores.turns.acceptNext(aNext('c', 'second'));
  assert.ok(next);
  const second = one.run(next.ref, next.events);
  second.log.delta('text', 'From the first');
  await until(() => textOf(items) === 'secondFrom the first');
  await finish({ ref: next.ref, ...second });
  await done;
});

test('with a bus that loses everything, whole events come from the store with each look', async (t) => {
  const { hub, begin, followed, finish, other } = await twoNodes(t);
  hub.loses = () => true;
  const turn = await begin('c');
  const { log } = turn;
  const { items, done } = await followed('c');
  await until(() => items.length === 1);
  log.delta('text', 'He');
  await log.append(aText('Hello'));
  await other.relay.tick();
  await until(() => textOf(items) === 'Hello');
  await finish(turn);
  await done;
});

test('after the bus was down what is open is asked for at once', async (t) => {
  const { hub, begin, followed, finish } = await twoNodes(t);
  const turn = await begin('c');
  const { items, done } = await followed('c');
  await until(() => items.length === 1);
  hub.loses = () => true;
  turn.log.delta('text', 'Hello, ');
  for (let rounds = 0; rounds < 5; rounds += 1) await soon();
  assert.equal(textOf(items), '');
  hub.loses = () => false;
  hub.gap();
  await until(() => textOf(items) === 'Hello, ');
  await finish(turn);
  await done;
});

test('conversations of equal names of two tenants hear nothing of each other', async (t) => {
  const { begin, followed, finish, told, one } = await twoNodes(t);
  const [mine, theirs] = [await begin('c', 'default'), await begin('c', 'other')];
  await one.relay.tick();
  const [follower, idle] = [await followed('c'), await followed('c', 'other')];
  await until(() => follower.items.length === 1 && idle.items.length === 1);
  mine.log.delta('text', 'secret of one');
  await until(() => textOf(follower.items) === 'secret of one');
  for (const { channel } of told()) assert.equal(channel, channelOf('default', 'c'));
  assert.equal(textOf(idle.items), '');
  const channels = [
    ['a', 'b'],
    ['a","b', ''],
    ['', 'a","b'],
    ['a', '"b'],
    ['a:b', ''],
  ].map(([tenant = '', id = '']) => channelOf(tenant, id));
  assert.equal(new Set(channels).size, channels.length, 'no names make the channel of another tenant');
  for (const turn of [mine, theirs]) await finish(turn);
  await Promise.all([follower.done, idle.done]);
});

test('that a turn waits for its process is told to who follows and to who comes', async (t) => {
  const { begin, followed, finish } = await twoNodes(t);
  const turn = await begin('c');
  const { log } = turn;
  const standing = (items: readonly StreamItem[]) =>
    items.flatMap(({ event }) => (event.type === 'status' ? [event.place ?? event.status] : []));
  log.status({ status: 'queued', place: 2 });
  const early = await followed('c');
  await until(() => standing(early.items).length === 1);
  log.status({ status: 'queued', place: 1 });
  await until(() => standing(early.items).length === 2);
  const late = await followed('c');
  await until(() => standing(late.items).length === 1);
  log.status({ status: 'running' });
  await until(() => standing(late.items).length === 2);
  log.delta('text', 'x');
  await finish(turn);
  await Promise.all([early.done, late.done]);
  assert.deepEqual(
    [standing(early.items), standing(late.items)],
    [
      [2, 1, 'running'],
      [1, 'running'],
    ],
  );
});

test('that the end of a turn could not be stored is told elsewhere', async (t) => {
  const { begin, followed } = await twoNodes(t);
  const { log } = await begin('c');
  const { items, done } = await followed('c');
  const failed = assert.rejects(done, (error: SallyportError) => error.code === 'storage_full');
  await until(() => items.length === 1);
  log.delta('text', 'x');
  await until(() => textOf(items) === 'x');
  log.live.fail(new SallyportError('storage_full'));
  await failed;
});

test('who follows what is deleted, ended or made anew elsewhere is told that it is over', async (t) => {
  const { stores, begin, finish, other } = await twoNodes(t);
  const endings: Record<string, () => Promise<unknown>> = {
    deleted: () => stores.conversations.delete('default', 'deleted'),
    ended: () => stores.conversations.end('default', 'ended'),
    again: async () => {
      await stores.conversations.delete('default', 'again');
      const accept = anAccept('again', 'default', [message, aText('of another one'), aToolStart({}), message]);
      await stores.turns.accept({ ...accept, conversation: { ...accept.conversation, sdkSession: 'another' } });
    },
  };
  for (const [id, end] of Object.entries(endings)) {
    await finish(await begin(id));
    const conversation = (await stores.conversations.get('default', id))!;
    const items = collect(other.read(conversation, { seq: conversation.lastSeq, chars: 0 }));
    await soon();
    await end();
    await other.relay.tick();
    assert.deepEqual(await items, [], id);
  }
});

test('a store that cannot be looked at ends nothing; it is looked at again', async (t) => {
  let fails = false;
  const { hub, begin, followed, finish, other } = await twoNodes(t, ({ conversations }) => async (...args) => {
    if (fails) throw new Error('no answer');
    return await conversations.heads(...args);
  });
  hub.loses = () => true;
  const turn = await begin('c');
  const { items, done } = await followed('c');
  await until(() => items.length === 1);
  fails = true;
  await turn.log.append(aText('Hello'));
  await other.relay.tick();
  await other.relay.tick();
  assert.equal(items.length, 1);
  fails = false;
  await other.relay.tick();
  await until(() => textOf(items) === 'Hello');
  await finish(turn);
  await done;
});

test('messages that no node of this version sends change nothing', async (t) => {
  const { hub, begin, followed, finish } = await twoNodes(t);
  const turn = await begin('c');
  const { items, done } = await followed('c');
  await until(() => items.length === 1);
  const stranger = hub.join();
  const texts = ['', 'null', '1', '[]', '{}', '{"seq":1}', '{"seq":-1,"kind":"log"}', '{"seq":1,"kind":"new"}', '[[]]'];
  const untrue: Told[] = [
    { seq: 2 ** 40, kind: 'log' },
    { seq: 2 ** 40, kind: 'delta', block: 'text', offset: 0, text: 'never' },
    { seq: 0, kind: 'delta', block: 'text', offset: 0, text: 'never' },
    { seq: 1, kind: 'delta', block: 'text', offset: 5, text: 'never' },
    { seq: 0, kind: 'failed', code: 'internal' },
  ];
  for (const text of [...texts, ...untrue.map(toldText)]) {
    for (const channel of [asksChannel, channelOf('default', 'c')]) stranger.publish(channel, text);
  }
  turn.log.delta('text', 'Hello');
  await until(() => textOf(items) === 'Hello');
  await finish(turn);
  await done;
  assert.deepEqual(items.map(({ event }) => event.type).toSorted(), [
    'restart',
    'result',
    'text_delta',
    'user_message',
  ]);
});
