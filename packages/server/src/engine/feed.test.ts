import assert from 'node:assert/strict';
import { test } from 'node:test';
import { feed, feedOf, type Feed, type Following, type Reader } from './feed.ts';
import { soon } from './log-support.ts';

async function* numbers(count: number, state = { made: 0, closed: false }) {
  try {
    for (; state.made < count; state.made += 1) yield state.made;
  } finally {
    state.closed = true;
  }
}

/** A reader that takes so many before it has enough. */
function readerOf(enough: number) {
  const got: unknown[] = [];
  const reader: Reader<number> = {
    take: (item) => got.push(item) % enough !== 0,
    end: () => got.push('end'),
    fail: (error) => got.push(error),
  };
  return { got, reader };
}

test('a generator is asked for as much as its reader takes, and its end is told', async () => {
  const state = { made: 0, closed: false };
  const { got, reader } = readerOf(2);
  const following = feedOf(numbers(3, state)).follow(reader);
  await soon();
  assert.deepEqual([got, state.made], [[0, 1], 1]);
  following.goOn();
  await soon();
  assert.deepEqual(got, [0, 1, 2, 'end']);
});

test('a reader that stops is told nothing any more, and the generator is closed', async () => {
  const state = { made: 0, closed: false };
  const stop = new AbortController();
  const { got, reader } = readerOf(1);
  const following = feedOf(numbers(9, state), stop).follow(reader);
  await soon();
  following.stop();
  following.stop();
  await soon();
  assert.deepEqual([got, state.closed, stop.signal.aborted], [[0], true, true]);
});

test('what a generator fails with is told, unless the reader has stopped', async () => {
  const failure = new Error('x');
  async function* failing(): AsyncGenerator<number> {
    yield 1;
    throw failure;
  }
  const { got, reader } = readerOf(100);
  feedOf(failing()).follow(reader);
  await soon();
  assert.deepEqual(got, [1, failure]);
  const late = readerOf(100);
  feedOf(failing()).follow(late.reader).stop();
  await soon();
  assert.deepEqual(late.got, []);
});

/** A feed that a test tells, and what became of its reader. */
function told() {
  const state = { goneOn: 0, stopped: 0 };
  let reader: Reader<number> | undefined;
  const following: Following = { goOn: () => (state.goneOn += 1), stop: () => (state.stopped += 1) };
  const made: Feed<number> = feed((given) => {
    reader = given;
    return following;
  });
  const items = made[Symbol.asyncIterator]();
  return { state, items, reader: reader as Reader<number> };
}

test('a loop gets what was told before and after it asks, and the end once', async () => {
  const { items, reader } = told();
  reader.take(1);
  assert.deepEqual(await items.next(), { done: false, value: 1 });
  const next = items.next();
  reader.take(2);
  assert.deepEqual(await next, { done: false, value: 2 });
  reader.take(3);
  reader.fail(new Error('x'));
  assert.deepEqual(await items.next(), { done: false, value: 3 });
  await assert.rejects(items.next(), /x/u);
  assert.deepEqual(await items.next(), { done: true, value: undefined });
});

test('a loop that is slow holds few, and goes on when it has taken some', async () => {
  const { state, items, reader } = told();
  let held = 1;
  while (reader.take(held)) held += 1;
  assert.ok(held > 1 && held < 1000);
  assert.equal(state.goneOn, 0);
  for (let left = held; left > 0; left -= 1) await items.next();
  assert.equal(state.goneOn, 1);
});

test('leaving a loop stops, also while it waits', async () => {
  const { state, items } = told();
  const next = items.next();
  await items.return?.();
  assert.deepEqual([await next, state.stopped], [{ done: true, value: undefined }, 1]);
});
