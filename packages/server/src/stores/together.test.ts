import { deepStrictEqual, rejects } from 'node:assert/strict';
import { test } from 'node:test';
import { Together } from './together.ts';

test('what is added at once is committed at once, in order, and each knows of its own', async () => {
  const commits: number[][] = [];
  let hold = Promise.withResolvers<void>();
  const together = new Together<number>(async (items) => {
    commits.push([...items]);
    await hold.promise;
  });
  const told: number[] = [];
  const add = async (...items: number[]) => {
    await together.add(items);
    told.push(items[0] ?? 0);
  };
  const first = Promise.all([add(1, 2), add(3)]);
  await new Promise((resolve) => setImmediate(resolve));
  const later = Promise.all([add(4), add(5, 6)]);
  await new Promise((resolve) => setImmediate(resolve));
  deepStrictEqual([commits, told], [[[1, 2, 3]], []]);
  hold.resolve();
  hold = Promise.withResolvers<void>();
  await first;
  deepStrictEqual(
    [commits, told],
    [
      [
        [1, 2, 3],
        [4, 5, 6],
      ],
      [1, 3],
    ],
  );
  hold.resolve();
  await later;
  await add(7);
  deepStrictEqual([commits.at(-1), told], [[7], [1, 3, 4, 5, 7]]);
});

test('one that cannot be committed does not take the others with it', async () => {
  const kept: number[] = [];
  const together = new Together<number>(async (items) => {
    if (items.includes(2)) throw new Error('not this one');
    kept.push(...items);
  });
  const [one, two, three] = await Promise.allSettled([together.add([1]), together.add([2]), together.add([3])]);
  deepStrictEqual([one.status, two.status, three.status], ['fulfilled', 'rejected', 'fulfilled']);
  await rejects(together.add([2]), /not this one/);
  await together.add([4]);
  deepStrictEqual(kept, [1, 3, 4]);
});
