import { deepStrictEqual, rejects, strictEqual } from 'node:assert/strict';
import { ConversationExistsError, StaleEpochError, type ConversationStore } from '../engine/ports.ts';
import { declare, type ConversationStores, type MakeStore, type Promises } from './contract.ts';
import { aNext, aText, anAccept, anEnd } from './turns.ts';

/** What every `ConversationStore` promises, with the turns that follow the first. */
export function conversationStoreContract(makeStores: MakeStore<ConversationStores>): void {
  declare('conversation store', promises, makeStores);
}

const at = 1_700_000_100_000;
const everything = { tenant: 'default', key: null, kind: 'query', before: null, limit: 100 } as const;

const promises: Promises<ConversationStores> = {
  'a conversation comes back as it was made, with where it stands': async ({ conversations, turns }) => {
    const made = anAccept('c', 'default', [aText('a')]);
    const { ref } = await turns.accept(made);
    const record = { ...made.conversation, lastSeq: 1, lastActiveAt: made.at };
    deepStrictEqual(await conversations.get('default', 'c'), { ...record, status: 'running', epoch: ref.epoch });
    await turns.finish(ref, anEnd);
    const ended = { ...record, status: 'idle', epoch: ref.epoch, lastSeq: 2, lastActiveAt: anEnd.at };
    deepStrictEqual(await conversations.get('default', 'c'), ended);
    strictEqual(await conversations.get('other', 'c'), null);
    strictEqual(await conversations.get('default', 'd'), null);
  },

  'of many conversations at once it is told how they stand, of a tenant and of those that are there': async ({
    conversations,
    turns,
  }) => {
    const { ref } = await turns.accept(anAccept('c', 'default', [aText('a'), aText('b')]));
    await turns.accept(anAccept('d'));
    await turns.accept(anAccept('c', 'other'));
    await turns.finish(ref, anEnd);
    const ids = [...Array.from({ length: 2500 }, (_, index) => `none ${index}`), 'd', 'c'];
    const heads = await conversations.heads('default', ids);
    for (const head of heads) {
      const { id, sdkSession, status, lastSeq } = (await conversations.get('default', head.id))!;
      deepStrictEqual(head, { id, sdkSession, status, lastSeq });
    }
    deepStrictEqual(Object.fromEntries(heads.map(({ id, lastSeq }) => [id, lastSeq])), { c: 3, d: 0 });
    deepStrictEqual(await conversations.heads('nobody', ids), []);
    deepStrictEqual(await conversations.heads('default', []), []);
  },

  'of fifty that start one id at once, one does': async ({ turns }) => {
    const starts = Array.from({ length: 50 }, (_, index) => {
      const one = anAccept('c');
      return { ...one, turn: `turn ${index}`, conversation: { ...one.conversation, sdkSession: `session ${index}` } };
    });
    const results = await Promise.allSettled(starts.map((start) => turns.accept(start)));
    strictEqual(results.filter(({ status }) => status === 'fulfilled').length, 1);
    for (const result of results) {
      if (result.status === 'rejected') strictEqual(result.reason instanceof ConversationExistsError, true);
    }
  },

  'of fifty next turns at once one is taken, and its log goes on without a gap': async ({ turns }) => {
    const { ref } = await turns.accept(anAccept('c', 'default', [aText('first')]));
    strictEqual(await turns.acceptNext(aNext('c', 'too early')), null);
    await turns.finish(ref, anEnd);
    const tries = await Promise.all(
      Array.from({ length: 50 }, (_, index) => turns.acceptNext(aNext('c', `n${index}`))),
    );
    const taken = tries.filter((one) => one !== null);
    strictEqual(taken.length, 1);
    strictEqual(taken[0]?.ref.epoch, ref.epoch + 1);
    deepStrictEqual(
      (await turns.read('default', 'c', 0, 10)).map(({ seq, body }) => [seq, body.type]),
      [
        [1, 'text'],
        [2, 'result'],
        [3, 'text'],
      ],
    );
    await rejects(turns.append(ref, at, [aText('late')]), StaleEpochError);
    strictEqual(await turns.acceptNext(aNext('nobody', 'x')), null);
    strictEqual(await turns.acceptNext(aNext('c', 'x', 'other')), null);
  },

  'a deleted conversation is gone with its log, and its running turn may write no more': async (stores) => {
    const { conversations, turns } = stores;
    const { ref } = await turns.accept(anAccept('c', 'default', [aText('a')]));
    await turns.accept(anAccept('c', 'other', [aText('theirs')]));
    strictEqual(await conversations.delete('default', 'c'), true);
    strictEqual(await conversations.delete('default', 'c'), false);
    strictEqual(await conversations.get('default', 'c'), null);
    deepStrictEqual(await turns.read('default', 'c', 0, 10), []);
    await rejects(turns.append(ref, at, [aText('late')]), StaleEpochError);
    await rejects(turns.finish(ref, anEnd), StaleEpochError);
    strictEqual((await turns.read('other', 'c', 0, 10)).length, 1);
    strictEqual((await turns.accept(anAccept('c', 'default', [aText('anew')]))).events[0]?.seq, 1);
  },

  'pages hold every conversation once, newest first, also those made in the same instant': async (stores) => {
    const { conversations, turns } = stores;
    for (let index = 0; index < 7; index += 1) {
      const one = anAccept(`c${index}`);
      const createdAt = 1000 + Math.floor(index / 3);
      await turns.accept({ ...one, conversation: { ...one.conversation, createdAt, key: index % 2 ? 'odd' : 'even' } });
    }
    await turns.accept(anAccept('theirs', 'other'));
    const seen: string[] = [];
    for (let before: { createdAt: number; id: string } | null = null; ;) {
      const rows: Awaited<ReturnType<ConversationStore['list']>> = await conversations.list({
        ...everything,
        before,
        limit: 2,
      });
      seen.push(...rows.map(({ id }) => id));
      const last = rows.at(-1);
      if (!last) break;
      before = { createdAt: last.createdAt, id: last.id };
    }
    deepStrictEqual(seen, ['c6', 'c5', 'c4', 'c3', 'c2', 'c1', 'c0']);
    const odd = await conversations.list({ ...everything, key: 'odd' });
    deepStrictEqual(
      odd.map(({ id }) => id),
      ['c5', 'c3', 'c1'],
    );
    deepStrictEqual(await conversations.list({ ...everything, kind: 'conversation' }), []);
  },
};
