import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { eventFrame, Puller } from './sse.ts';

test('a frame is one id line, one data line and an empty line, whatever the data holds', () => {
  assert.equal(eventFrame('4.2', { a: 1 }), 'id: 4.2\ndata: {"a":1}\n\n');
  assert.equal(eventFrame(null, { a: 1 }), 'data: {"a":1}\n\n');
  const frame = eventFrame('1.0', { text: 'a\r\n\nid: 9\n\ndata: x\u2028\ud800' });
  assert.equal(frame.match(/\n/g)?.length, 3);
  assert.equal(Buffer.from(frame).toString(), frame);
});

/** A source that gives what is pushed, and tells when it was closed. */
function source<T>() {
  const waiting: ((result: IteratorResult<T>) => void)[] = [];
  const state = { asked: 0, closed: 0, push: (value: T) => waiting.shift()?.({ done: false, value }) };
  const iterator = {
    next: () => {
      state.asked += 1;
      return new Promise<IteratorResult<T>>((resolve) => waiting.push(resolve));
    },
    return: async () => {
      state.closed += 1;
      return { done: true as const, value: undefined };
    },
  };
  return { state, items: { [Symbol.asyncIterator]: () => iterator } };
}

test('an item is asked for once, however many silences pass before it comes', async () => {
  const { state, items } = source<string>();
  const puller = new Puller(items, new AbortController().signal);
  assert.equal(state.asked, 0);
  assert.deepEqual(await puller.next(1), { kind: 'silence' });
  assert.deepEqual(await puller.next(1), { kind: 'silence' });
  const next = puller.next(10_000);
  state.push('a');
  assert.deepEqual(await next, { kind: 'item', value: 'a' });
  assert.equal(state.asked, 1);
  puller.close();
  puller.close();
  assert.equal(state.closed, 1);
});

test('a long stream leaves no listener on the signal of its client', async () => {
  async function* many() {
    for (let count = 0; count < 100; count += 1) yield count;
  }
  const { signal } = new AbortController();
  const puller = new Puller(many(), signal);
  while ((await puller.next(1000)).kind === 'item');
  assert.equal(getEventListeners(signal, 'abort').length, 1);
  puller.close();
  assert.equal(getEventListeners(signal, 'abort').length, 0);
});

test('leaving ends a wait at once and closes the source, also when nobody waits', async () => {
  for (const wait of [true, false]) {
    const { state, items } = source<string>();
    const left = new AbortController();
    const puller = new Puller(items, left.signal);
    const next = wait ? puller.next(3_600_000) : null;
    left.abort();
    if (next) assert.deepEqual(await next, { kind: 'left' });
    assert.deepEqual(await puller.next(1), { kind: 'left' });
    assert.equal(state.closed, 1);
  }
});

test('the end is told and a failure is thrown', async () => {
  async function* two() {
    yield 1;
    throw new Error('broken');
  }
  const puller = new Puller(two(), new AbortController().signal);
  assert.deepEqual(await puller.next(1000), { kind: 'item', value: 1 });
  await assert.rejects(puller.next(1000), /broken/);
  async function* none() {}
  assert.deepEqual(await new Puller(none(), new AbortController().signal).next(1000), { kind: 'end' });
});

test('a source that fails while it is closed troubles nobody', async () => {
  const failing = {
    next: () => Promise.reject(new Error('late')),
    return: () => {
      throw new Error('closing');
    },
  };
  const left = new AbortController();
  const puller = new Puller({ [Symbol.asyncIterator]: () => failing }, left.signal);
  const next = puller.next(1000);
  left.abort();
  assert.deepEqual(await next, { kind: 'left' });
});
