import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Exclusive } from './exclusive.ts';

test('work under one name is done in order, also after a failure, and under another name at once', async () => {
  const exclusive = new Exclusive();
  const said: string[] = [];
  const gate = Promise.withResolvers<void>();
  const first = exclusive.run('a', async () => {
    await gate.promise;
    said.push('first');
    throw new Error('failed');
  });
  const second = exclusive.run('a', async () => said.push('second'));
  const third = exclusive.run('a', async () => said.push('third'));
  await exclusive.run('b', async () => said.push('other'));
  assert.deepEqual(said, ['other']);
  gate.resolve();
  await assert.rejects(first, /failed/u);
  assert.deepEqual([await second, await third], [3, 4]);
  assert.deepEqual(said, ['other', 'first', 'second', 'third']);
  assert.equal(await exclusive.run('a', async () => 'again'), 'again');
});
