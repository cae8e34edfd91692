import { deepStrictEqual, rejects, strictEqual } from 'node:assert/strict';
import { ConversationExistsError, type Fork, type TurnRef } from '../engine/ports.ts';
import { declare, type ConversationStores, type MakeStore, type Promises } from './contract.ts';
import { aClaim, aNext, aText, anAccept, anApproval, anEnd } from './turns.ts';

/** What every `ConversationStore` promises about conversations that are copied, end, and go. */
export function retentionContract(makeStores: MakeStore<ConversationStores>): void {
  declare('conversation store', { ...forks, ...ends }, makeStores);
}

const later = anEnd.at + 1_000_000;

const aFork = (epoch: number, part: Partial<Fork> = {}): Fork => ({
  tenant: 'default',
  from: 'c',
  epoch,
  id: 'fork',
  key: 'key-2',
  sdkSession: 'session of fork',
  at: later,
  ...part,
});

/** A conversation with everything that belongs to one; its only turn has ended. */
async function aFull({ turns, approvals, images }: ConversationStores, conversation = 'c', tenant = 'default') {
  const claim = aClaim(`claim of ${conversation}`);
  const { ref } = await turns.accept({ ...anAccept(conversation, tenant, [aText('a'), aText('b')]), claim });
  await images.before(ref, 'file', 'old');
  await images.before(ref, 'cut', 'old');
  await approvals.request(ref, ...anApproval(ref, conversation));
  await turns.finish(ref, { ...anEnd, files: [{ path: 'file', content: 'new' }] });
  return ref;
}

/** All that is kept of a conversation but its row. */
async function kept({ turns, approvals, images }: ConversationStores, { tenant, conversation, turn }: TurnRef) {
  return {
    events: await turns.read(tenant, conversation, 0, 100),
    turn: await turns.get(tenant, turn),
    approvals: await approvals.ofTurn(tenant, turn),
    images: await images.ofConversation(tenant, conversation),
    claimed: await turns.claimed(tenant, 'key-1', `claim of ${conversation}`, anEnd.at),
  };
}

const nothing = { events: [], turn: null, approvals: [], images: [], claimed: null };

const forks: Promises<ConversationStores> = {
  'a fork has the past of the other, to the byte, and no turns': async (stores) => {
    const { turns, conversations, images } = stores;
    const ref = await aFull(stores);
    const source = await conversations.get('default', 'c');
    const before = await kept(stores, ref);
    const made = await conversations.fork(aFork(ref.epoch));
    deepStrictEqual(made, {
      ...source,
      id: 'fork',
      key: 'key-2',
      kind: 'conversation',
      sdkSession: 'session of fork',
      status: 'idle',
      epoch: 1,
      createdAt: later,
      lastActiveAt: later,
    });
    deepStrictEqual(await conversations.get('default', 'fork'), made);
    deepStrictEqual(await turns.read('default', 'fork', 0, 100), before.events);
    deepStrictEqual(await images.ofConversation('default', 'fork'), before.images);
    strictEqual(before.events.length, 4);
    deepStrictEqual(await kept(stores, ref), before);
    deepStrictEqual(await turns.takeUnfinished('node-2'), []);
  },

  'what either does later does not show in the other': async (stores) => {
    const { turns, conversations, images } = stores;
    const ref = await aFull(stores);
    await conversations.fork(aFork(ref.epoch));
    for (const [conversation, other] of [
      ['fork', 'c'],
      ['c', 'fork'],
    ] as const) {
      const events = await turns.read('default', other, 0, 100);
      const files = await images.ofConversation('default', other);
      const next = (await turns.acceptNext(aNext(conversation, `next of ${conversation}`)))?.ref as TurnRef;
      await images.before(next, 'cut', 'x');
      await images.before(next, `file of ${conversation}`, null);
      await turns.append(next, later, [aText(conversation)]);
      await turns.finish(next, { ...anEnd, files: [{ path: 'cut', content: conversation }] });
      deepStrictEqual(await turns.read('default', other, 0, 100), events);
      deepStrictEqual(await images.ofConversation('default', other), files);
      const log = await turns.read('default', conversation, 4, 100);
      deepStrictEqual(
        log.map(({ seq, turn }) => [seq, turn]),
        [5, 6, 7].map((seq) => [seq, next.turn]),
      );
    }
    const left = await turns.read('default', 'fork', 0, 100);
    strictEqual(await conversations.delete('default', 'c'), true);
    deepStrictEqual(await turns.read('default', 'fork', 0, 100), left);
  },

  'only a conversation at rest is forked, at the epoch it was seen at': async (stores) => {
    const { turns, conversations } = stores;
    const { ref } = await turns.accept(anAccept('c'));
    strictEqual(await conversations.fork(aFork(ref.epoch)), null);
    await turns.append(ref, anEnd.at, [], 'waiting');
    strictEqual(await conversations.fork(aFork(ref.epoch)), null);
    await turns.finish(ref, anEnd);
    strictEqual(await conversations.fork(aFork(ref.epoch + 1)), null);
    strictEqual(await conversations.fork(aFork(ref.epoch, { tenant: 'other' })), null);
    strictEqual(await conversations.fork(aFork(ref.epoch, { from: 'unknown' })), null);
    strictEqual(await conversations.get('default', 'fork'), null);
    await conversations.endIdle(later, 10);
    strictEqual((await conversations.fork(aFork(ref.epoch)))?.status, 'idle');
    await conversations.bury('default', 'c');
    strictEqual(await conversations.fork(aFork(ref.epoch, { id: 'd', sdkSession: 's' })), null);
  },

  'a fork under a taken id, or on a taken session, leaves nothing': async (stores) => {
    const { turns, conversations } = stores;
    const ref = await aFull(stores);
    await turns.accept(anAccept('d', 'default', [aText('theirs')]));
    const taken = (part: Partial<Fork>) => conversations.fork(aFork(ref.epoch, part));
    await rejects(taken({ id: 'd' }), ConversationExistsError);
    await rejects(taken({ id: 'c' }), ConversationExistsError);
    await rejects(taken({ sdkSession: 'session of d' }));
    strictEqual((await turns.read('default', 'd', 0, 100)).length, 1);
    strictEqual(await conversations.get('default', 'fork'), null);
    deepStrictEqual(await turns.read('default', 'fork', 0, 100), []);
  },
};

const ends: Promises<ConversationStores> = {
  'idle conversations without activity end, oldest first, and take no next turn': async (stores) => {
    const { turns, conversations } = stores;
    for (const [index, [name, tenant]] of [
      ['a', 'default'],
      ['b', 'other'],
      ['c', 'default'],
    ].entries()) {
      const { ref } = await turns.accept(anAccept(String(name), tenant));
      await turns.finish(ref, { ...anEnd, at: later + index });
    }
    await turns.accept(anAccept('running'));
    const { ref: waiting } = await turns.accept(anAccept('waiting'));
    await turns.append(waiting, anEnd.at, [], 'waiting');
    const a = { tenant: 'default', id: 'a', sdkSession: 'session of a' };
    const b = { tenant: 'other', id: 'b', sdkSession: 'session of b' };
    deepStrictEqual(await conversations.endIdle(later, 10), []);
    deepStrictEqual(await conversations.endIdle(later + 2, 1), [a]);
    deepStrictEqual(await conversations.endIdle(later + 2, 10), [b]);
    deepStrictEqual(await conversations.endIdle(later + 2, 10), []);
    const ended = await conversations.get('default', 'a');
    deepStrictEqual([ended?.status, ended?.lastActiveAt], ['ended', later]);
    strictEqual(await turns.acceptNext(aNext('a', 'next')), null);
    strictEqual((await turns.read('default', 'a', 0, 10)).length, 1);
    strictEqual((await turns.acceptNext(aNext('c', 'next'))) !== null, true);
    deepStrictEqual(await conversations.listEnded(later, 10), []);
    deepStrictEqual(await conversations.listEnded(later + 1, 10), [a]);
    deepStrictEqual(await conversations.listEnded(later + 9, 1), [a]);
    strictEqual((await conversations.listEnded(later + 9, 10)).length, 2);
  },

  'of a buried conversation only the row is left, without what its client wrote': async (stores) => {
    const { turns, conversations } = stores;
    const ref = await aFull(stores);
    const theirs = await aFull(stores, 'c', 'other');
    const neighbour = await aFull(stores, 'd');
    const before = [await kept(stores, theirs), await kept(stores, neighbour)];
    strictEqual(await conversations.bury('default', 'c'), false);
    await conversations.endIdle(later, 10);
    const row = await conversations.get('default', 'c');
    strictEqual(await conversations.bury('nobody', 'c'), false);
    strictEqual(await conversations.bury('default', 'c'), true);
    strictEqual(await conversations.bury('default', 'c'), false);
    deepStrictEqual(await conversations.get('default', 'c'), { ...row, status: 'gone', metadata: {} });
    deepStrictEqual(await kept(stores, ref), nothing);
    deepStrictEqual([await kept(stores, theirs), await kept(stores, neighbour)], before);
    const filter = { tenant: 'default', key: null, kind: 'query', before: null, limit: 10 } as const;
    deepStrictEqual(
      (await conversations.list(filter)).map(({ id }) => id),
      ['d'],
    );
    deepStrictEqual((await conversations.listEnded(later, 10)).length, 2);
    strictEqual(await turns.acceptNext(aNext('c', 'next')), null);
    await rejects(turns.accept(anAccept('c')), ConversationExistsError);
    strictEqual(await conversations.delete('default', 'c'), true);
  },

  'a buried conversation has no system prompt and no output schema': async ({ turns, conversations }) => {
    const one = anAccept('c');
    const profile = { ...one.conversation.profile, systemPrompt: 'secret', outputSchema: { type: 'object' } };
    const { ref } = await turns.accept({ ...one, conversation: { ...one.conversation, profile } });
    await turns.finish(ref, anEnd);
    await conversations.endIdle(later, 10);
    await conversations.bury('default', 'c');
    const { systemPrompt, outputSchema } = (await conversations.get('default', 'c'))?.profile ?? {};
    deepStrictEqual([systemPrompt, outputSchema], [null, null]);
  },

  'all that belongs to a deleted conversation goes with it, and nothing else': async (stores) => {
    const { conversations, turns } = stores;
    const ref = await aFull(stores);
    const theirs = await aFull(stores, 'c', 'other');
    const neighbour = await aFull(stores, 'd');
    const before = [await kept(stores, theirs), await kept(stores, neighbour)];
    strictEqual(await conversations.delete('default', 'c'), true);
    deepStrictEqual(await kept(stores, ref), nothing);
    deepStrictEqual([await kept(stores, theirs), await kept(stores, neighbour)], before);
    await turns.accept({ ...anAccept('c'), claim: aClaim('claim of c') });
  },
};
