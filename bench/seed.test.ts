import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { systemClock } from '../packages/server/src/engine/clock.ts';
import { openStores } from '../packages/server/src/stores/stores.ts';
import { aNext, aText, anAccept, anEnd } from '../packages/server/src/testing/turns.ts';
import { multiply } from './seed.ts';

test('copies of a conversation are read like the conversation itself', async (t) => {
  const dataDir = await mkdtemp(join(tmpdir(), 'sp-seed-'));
  t.after(() => rm(dataDir, { recursive: true, force: true }));
  const open = () => openStores({ dataDir, clock: systemClock });
  const before = await open();
  const { ref } = await before.turns.accept(anAccept('c', 'default', [aText('what was said')]));
  await before.turns.finish(ref, anEnd);
  await before.close();
  multiply(dataDir, 'c', 3);
  const { conversations, turns, close } = await open();
  t.after(close);
  const original = await conversations.get('default', 'c');
  for (const id of ['c-1', 'c-2', 'c-3']) {
    const copy = await conversations.get('default', id);
    assert.deepEqual({ ...copy, id: 'c', sdkSession: original?.sdkSession }, original);
    assert.notEqual(copy?.sdkSession, original?.sdkSession);
    const bodies = async (conversation: string) =>
      (await turns.read('default', conversation, 0, 10)).map(({ seq, body }) => ({ seq, body }));
    assert.deepEqual(await bodies(id), await bodies('c'));
    assert.equal((await turns.acceptNext({ ...aNext(id, `next of ${id}`), at: anEnd.at }))?.ref.conversation, id);
  }
  assert.equal(await conversations.get('default', 'c-4'), null);
});
