import { deepStrictEqual, rejects, strictEqual } from 'node:assert/strict';
import { StaleEpochError, type TurnRef } from '../engine/ports.ts';
import { awkwardJson, declare, type ConversationStores, type MakeStore, type Promises } from './contract.ts';
import { aClaim, aNext, aText, anAccept, anEnd } from './turns.ts';

/** What every `TurnStore` promises about where a turn and its conversation stand. */
export function turnStatesContract(makeStores: MakeStore<ConversationStores>): void {
  declare('turn states', promises, makeStores);
}

const at = 1_700_000_000_500;

/** State of the turn and status of its conversation. */
async function states({ turns, conversations }: ConversationStores, { tenant, conversation, turn }: TurnRef) {
  return [(await turns.get(tenant, turn))?.state, (await conversations.get(tenant, conversation))?.status];
}

const promises: Promises<ConversationStores> = {
  'a turn comes back as it was accepted, and with its end': async ({ turns }) => {
    const { ref } = await turns.accept({ ...anAccept('c'), request: awkwardJson });
    const stored = {
      ref,
      state: 'accepted',
      request: awkwardJson,
      acceptedAt: 1_700_000_000_000,
      batches: 0,
      activeMs: 0,
      result: null,
      code: null,
    };
    deepStrictEqual(await turns.get('default', ref.turn), stored);
    await turns.finish(ref, { ...anEnd, state: 'failed', code: 'agent_crashed' });
    const ended = { ...stored, state: 'failed', result: anEnd.result, code: 'agent_crashed' };
    deepStrictEqual(await turns.get('default', ref.turn), ended);
    strictEqual(await turns.get('other', ref.turn), null);
    strictEqual(await turns.get('default', 'unknown'), null);
  },

  'an event changes the state of turn and conversation together, or leaves it': async (stores) => {
    const { turns } = stores;
    const { ref } = await turns.accept(anAccept('c'));
    deepStrictEqual(await states(stores, ref), ['accepted', 'running']);
    await turns.append(ref, at, [aText('a')]);
    deepStrictEqual(await states(stores, ref), ['accepted', 'running']);
    await turns.begin(ref, at);
    deepStrictEqual(await states(stores, ref), ['running', 'running']);
    await turns.append(ref, at, [aText('b')], 'waiting');
    deepStrictEqual(await states(stores, ref), ['waiting', 'waiting']);
    strictEqual((await turns.append(ref, at, [aText('c')]))[0]?.seq, 3);
    deepStrictEqual(await states(stores, ref), ['waiting', 'waiting']);
    await turns.append(ref, at, [], 'running');
    deepStrictEqual(await states(stores, ref), ['running', 'running']);
  },

  'a state that cannot be logged is not taken': async (stores) => {
    const { ref } = await stores.turns.accept(anAccept('c'));
    await rejects(stores.turns.append({ ...ref, epoch: ref.epoch + 1 }, at, [aText('a')], 'waiting'), StaleEpochError);
    deepStrictEqual(await states(stores, ref), ['accepted', 'running']);
  },

  'a waiting turn takes no next one, and ends': async (stores) => {
    const { turns } = stores;
    const { ref } = await turns.accept(anAccept('c'));
    await turns.append(ref, at, [], 'waiting');
    strictEqual(await turns.acceptNext(aNext('c', 'next')), null);
    await turns.finish(ref, anEnd);
    deepStrictEqual(await states(stores, ref), ['completed', 'idle']);
    strictEqual((await turns.acceptNext(aNext('c', 'next')))?.ref.epoch, ref.epoch + 1);
  },

  'a waiting turn that is taken over begins without ceasing to wait': async (stores) => {
    const { turns } = stores;
    const { ref } = await turns.accept(anAccept('c'));
    await turns.begin(ref, at);
    await turns.append(ref, at, [aText('a')], 'waiting');
    const [taken] = await turns.takeUnfinished('node-2');
    const now = taken?.turn.ref as TurnRef;
    strictEqual(taken?.turn.state, 'waiting');
    strictEqual(taken.conversation.status, 'waiting');
    await rejects(turns.begin(ref, at), StaleEpochError);
    await turns.begin(now, at);
    deepStrictEqual(await states(stores, now), ['waiting', 'waiting']);
    await turns.append(now, at, [aText('b')], 'running');
    deepStrictEqual(await states(stores, now), ['running', 'running']);
    await turns.finish(now, anEnd);
  },

  'who takes a turn over is told all of it: its request, its counters, its conversation, its claim': async (stores) => {
    const { turns, conversations } = stores;
    const { ref } = await turns.accept({ ...anAccept('a', 'default', [aText('a')]), claim: aClaim('once') });
    const { ref: other } = await turns.accept(anAccept('a', 'other'));
    await turns.begin(ref, at);
    await turns.count(ref, { batches: 2, activeMs: 1234 });
    const taken = await turns.takeUnfinished('node-2');
    strictEqual(taken.length, 2);
    for (const [old, claimed] of [
      [ref, true],
      [other, false],
    ] as const) {
      const one = taken.find(({ turn }) => turn.ref.tenant === old.tenant);
      strictEqual(one?.turn.ref.epoch, old.epoch + 1);
      strictEqual(one.claimed, claimed);
      deepStrictEqual(one.turn, await turns.get(old.tenant, old.turn));
      deepStrictEqual(one.conversation, await conversations.get(old.tenant, 'a'));
      strictEqual(one.conversation.epoch, one.turn.ref.epoch);
    }
  },

  'counters are those that were counted last, in whole milliseconds': async ({ turns }) => {
    const { ref } = await turns.accept(anAccept('c'));
    const { ref: other } = await turns.accept(anAccept('c', 'other'));
    await turns.count(ref, { batches: 1, activeMs: 10 });
    await turns.count(ref, { batches: 2, activeMs: 20.4 });
    await rejects(turns.count({ ...ref, epoch: ref.epoch + 1 }, { batches: 3, activeMs: 30 }), StaleEpochError);
    const counted = await turns.get('default', ref.turn);
    deepStrictEqual([counted?.batches, counted?.activeMs], [2, 20]);
    strictEqual((await turns.get('other', other.turn))?.batches, 0);
  },

  'an earlier turn writes nothing under the epoch of the next one': async ({ turns }) => {
    const { ref } = await turns.accept(anAccept('c'));
    await turns.finish(ref, anEnd);
    const next = await turns.acceptNext(aNext('c', 'next'));
    const mixed = { ...ref, epoch: next?.ref.epoch ?? 0 };
    await rejects(turns.append(mixed, at, [aText('late')]), StaleEpochError);
    await rejects(turns.count(mixed, { batches: 1, activeMs: 1 }), StaleEpochError);
    await rejects(turns.finish(mixed, anEnd), StaleEpochError);
  },
};
