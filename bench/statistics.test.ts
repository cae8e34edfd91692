import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bootstrap, median, quantile, type Random } from './statistics.ts';

/** Numbers that are the same in every run: a linear congruence. */
function seeded(seed: number): Random {
  let state = seed;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
    return state / 2 ** 32;
  };
}

test('the median is the middle of the values in any order, and between the two of an even number', () => {
  assert.equal(median([30, 10, 20]), 20);
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.equal(median([7]), 7);
  assert.throws(() => median([]), /no values/);
});

test('a quantile lies between its neighbours in proportion', () => {
  const values = [50, 10, 40, 20, 30];
  assert.deepEqual(
    [0, 0.25, 0.6, 1].map((share) => quantile(values, share)),
    [10, 20, 34, 50],
  );
});

test('sorting leaves the values of the caller as they are', () => {
  const values = [3, 1, 2];
  median(values);
  assert.deepEqual(values, [3, 1, 2]);
});

test('a bootstrap draws each value by the random number, and takes the middle 95 % of what it finds', () => {
  // Every draw takes the first value, or every one the last.
  assert.deepEqual(
    bootstrap([[1, 2, 3]], median, () => 0),
    { low: 1, high: 1 },
  );
  assert.deepEqual(
    bootstrap([[1, 2, 3]], median, () => 0.999),
    { low: 3, high: 3 },
  );
});

test('the range of a median holds it, narrows with more values, and is the same for the same numbers', () => {
  const few = [8, 9, 10, 11, 12];
  const many = Array.from({ length: 20 }, () => few).flat();
  const range = bootstrap([few], median, seeded(1));
  const narrow = bootstrap([many], median, seeded(1));
  assert.ok(range.low <= 10 && range.high >= 10 && range.low < range.high, JSON.stringify(range));
  assert.ok(narrow.high - narrow.low < range.high - range.low, JSON.stringify(narrow));
  assert.deepEqual(bootstrap([few], median, seeded(1)), range);
});

test('a statistic of several samples is drawn from each of them on its own', () => {
  const ratio = (of: readonly number[] = [], to: readonly number[] = []) => median(of) / median(to);
  assert.deepEqual(
    bootstrap([[10], [4]], ratio, () => 0),
    { low: 2.5, high: 2.5 },
  );
  const { low, high } = bootstrap([[90, 100, 110], [10]], ratio, seeded(3));
  assert.deepEqual([low, high], [9, 11]);
});
