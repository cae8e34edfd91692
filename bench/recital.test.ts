import assert from 'node:assert/strict';
import { test } from 'node:test';
import { orderIn, readRecital, recitalPrompt, Reciter } from './recital.ts';
import { wordOf } from './words.ts';

const word = wordOf('recital', 1);
const times = [5, 1_000_000, 98_765_432_109];

function recite(): string[] {
  const reciter = new Reciter(word);
  return times.map((at) => reciter.next(at));
}

test('a recital tells when each piece was said', () => {
  assert.deepEqual(readRecital(recite().join(''), word, times.length), { saidAt: times, problem: null });
});

test('a recital is right only with all its pieces, once, unchanged and in order, and for its word', () => {
  const [first = '', second = '', third = ''] = recite();
  const changed = second.replace('1', '2');
  for (const pieces of [
    [first, second],
    [first, third, second],
    [first, second, second],
    [first, changed, third],
  ]) {
    assert.notEqual(readRecital(pieces.join(''), word, times.length).problem, null, pieces.join('|'));
  }
  assert.match(readRecital(recite().join(''), wordOf('another'), times.length).problem ?? '', /piece 0/u);
});

test('a prompt orders a recital, and the last one of several', () => {
  const order = (pieces: number, rate: number) => recitalPrompt(word, pieces, rate);
  assert.deepEqual(orderIn(`${order(1, 2)} ${order(2000, 200)} more`), { word, pieces: 2000, rate: 200 });
  assert.equal(orderIn('Recite a poem.'), null);
});
