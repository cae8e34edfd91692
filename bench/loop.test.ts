import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { closedLoop } from './loop.ts';

test('a closed loop asks so many at once, each number once, and counts right and wrong answers apart', async () => {
  const asked: number[] = [];
  let [open, most] = [0, 0];
  const sample = await closedLoop({
    concurrency: 3,
    seconds: 0.2,
    async ask(number) {
      asked.push(number);
      open += 1;
      most = Math.max(most, open);
      await delay(1);
      open -= 1;
      return number === 2 ? 'wrong text' : null;
    },
  });
  assert.deepEqual([most, open], [3, 0]);
  assert.deepEqual(
    asked,
    Array.from(asked, (_, index) => index + 1),
  );
  const [counted = 0, seconds = 0] = sample.raw;
  assert.deepEqual([sample.wrong, sample.problems, sample.right], [1, ['wrong text'], counted]);
  assert.equal(sample.value, counted / seconds);
  assert.ok(sample.right > 0 && sample.right < asked.length - 1, 'the beginning is not counted');
});
