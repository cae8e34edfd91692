import { deepStrictEqual, rejects, strictEqual } from 'node:assert/strict';
import { ClaimTakenError, ConversationExistsError, type AcceptTurn, type TurnStore } from '../engine/ports.ts';
import { declare, type MakeStore, type Promises } from './contract.ts';
import { aClaim, aNext, aText, anAccept, anEnd } from './turns.ts';

/** What every `TurnStore` promises about the claims under which turns are accepted. */
export function claimContract(makeStore: MakeStore<TurnStore>): void {
  declare('claims', promises, makeStore);
}

const now = 1_700_000_000_000;

const under = (conversation: string, idempotencyKey: string, tenant = 'default'): AcceptTurn => ({
  ...anAccept(conversation, tenant, [aText(conversation)]),
  claim: aClaim(idempotencyKey),
});

const nextUnder = (conversation: string, turn: string, idempotencyKey: string) => ({
  ...aNext(conversation, turn),
  claim: aClaim(idempotencyKey),
});

const promises: Promises<TurnStore> = {
  'of fifty that start under one claim at once, one does, and nothing is kept of the others': async (store) => {
    const names = Array.from({ length: 50 }, (_, index) => `c${index}`);
    const results = await Promise.allSettled(names.map((name) => store.accept(under(name, 'once'))));
    strictEqual(results.filter(({ status }) => status === 'fulfilled').length, 1);
    for (const result of results) if (result.status === 'rejected') strictEqual(result.reason.name, 'ClaimTakenError');
    const logs = await Promise.all(names.map((name) => store.read('default', name, 0, 10)));
    strictEqual(logs.filter((log) => log.length > 0).length, 1);
    const [unfinished, ...more] = await store.takeUnfinished('node-2');
    deepStrictEqual(more, []);
    const found = await store.claimed('default', 'key-1', 'once', now);
    deepStrictEqual(found, { hash: 'hash of once', turn: unfinished?.turn });
  },

  'of fifty next turns under one claim at once, one is taken and the others hear of the claim': async (store) => {
    const { ref } = await store.accept(anAccept('c'));
    await store.finish(ref, anEnd);
    const tries = Array.from({ length: 50 }, (_, index) => store.acceptNext(nextUnder('c', `n${index}`, 'once')));
    const results = await Promise.allSettled(tries);
    strictEqual(results.filter(({ status }) => status === 'fulfilled').length, 1);
    for (const result of results) if (result.status === 'rejected') strictEqual(result.reason.name, 'ClaimTakenError');
    strictEqual((await store.read('default', 'c', 0, 10)).length, 2);
  },

  'a taken claim is told before a taken conversation, and before a busy one': async (store) => {
    await store.accept(under('c', 'once'));
    const again = { ...under('c', 'once'), turn: 'again' };
    await rejects(store.accept(again), ClaimTakenError);
    for (const claim of [aClaim('another'), aClaim('once', 'key-2')]) {
      await rejects(store.accept({ ...again, claim }), ConversationExistsError);
      strictEqual(await store.acceptNext({ ...aNext('c', 'again'), claim }), null);
    }
    const { expiresAt } = aClaim('once');
    await rejects(store.accept({ ...again, at: expiresAt }), ConversationExistsError);
    strictEqual(await store.acceptNext({ ...nextUnder('c', 'again', 'once'), at: expiresAt }), null);
    await rejects(store.acceptNext(nextUnder('c', 'again', 'once')), ClaimTakenError);
    await rejects(store.acceptNext(nextUnder('nobody', 'again', 'once')), ClaimTakenError);
    strictEqual(await store.claimed('default', 'key-1', 'another', now), null);
    strictEqual((await store.read('default', 'c', 0, 10)).length, 1);
  },

  'a next turn under a taken claim leaves its idle conversation idle': async (store) => {
    await store.accept(under('other', 'once'));
    const { ref } = await store.accept(anAccept('c'));
    await store.finish(ref, anEnd);
    await rejects(store.acceptNext(nextUnder('c', 'refused', 'once')), ClaimTakenError);
    strictEqual((await store.read('default', 'c', 0, 10)).length, 1);
    strictEqual((await store.acceptNext(aNext('c', 'next')))?.ref.epoch, ref.epoch + 1);
  },

  'the turn under a claim is found while it lasts, also when it has ended': async (store) => {
    const { ref } = await store.accept(under('c', 'once'));
    const { expiresAt } = aClaim('once');
    await store.finish(ref, anEnd);
    const found = await store.claimed('default', 'key-1', 'once', expiresAt - 1);
    deepStrictEqual(found, { hash: 'hash of once', turn: await store.get('default', ref.turn) });
    strictEqual(found?.turn.state, 'completed');
    strictEqual(await store.claimed('default', 'key-1', 'once', expiresAt), null);
    strictEqual(await store.claimed('default', 'key-1', 'unknown', now), null);
  },

  'claims of other keys and tenants are others': async (store) => {
    const mine = await store.accept(under('c', 'once'));
    const theirs = await store.accept(under('c', 'once', 'other'));
    const key2 = await store.accept({ ...under('d', 'once'), claim: aClaim('once', 'key-2') });
    for (const [tenant, key, { ref }] of [
      ['default', 'key-1', mine],
      ['other', 'key-1', theirs],
      ['default', 'key-2', key2],
    ] as const) {
      deepStrictEqual((await store.claimed(tenant, key, 'once', now))?.turn.ref, ref);
    }
    await store.finish(theirs.ref, { ...anEnd, nothingRan: true });
    strictEqual(await store.claimed('other', 'key-1', 'once', now), null);
    deepStrictEqual((await store.claimed('default', 'key-1', 'once', now))?.turn.ref, mine.ref);
  },

  'an expired claim gives way to a new turn': async (store) => {
    const { expiresAt } = aClaim('once');
    await store.accept(under('c', 'once'));
    await rejects(store.accept({ ...under('d', 'once'), at: expiresAt - 1 }), ClaimTakenError);
    const renewed = { ...aClaim('once'), hash: 'another hash', expiresAt: expiresAt * 2 };
    const { ref } = await store.accept({ ...under('d', 'once'), at: expiresAt, claim: renewed });
    const found = await store.claimed('default', 'key-1', 'once', expiresAt);
    deepStrictEqual([found?.hash, found?.turn.ref], ['another hash', ref]);
    await rejects(store.acceptNext({ ...nextUnder('c', 'x', 'once'), at: expiresAt }), ClaimTakenError);
  },

  'a turn in which nothing ran gives its claim free when it ends': async (store) => {
    const { ref } = await store.accept(under('c', 'once'));
    await store.finish(ref, { ...anEnd, state: 'failed', code: 'overloaded', nothingRan: true });
    strictEqual(await store.claimed('default', 'key-1', 'once', now), null);
    const next = await store.acceptNext(nextUnder('c', 'next', 'once'));
    strictEqual((await store.claimed('default', 'key-1', 'once', now))?.turn.ref.turn, next?.ref.turn);
  },

  'only expired claims are swept, as many as asked for': async (store) => {
    const { expiresAt } = aClaim('once');
    for (const [name, lasts] of [0, 0, 0, 1].entries()) {
      const claim = { ...aClaim(`claim ${name}`), expiresAt: expiresAt + lasts };
      await store.accept({ ...under(`c${name}`, ''), claim });
    }
    strictEqual(await store.sweepClaims(expiresAt - 1, 10), 0);
    strictEqual(await store.sweepClaims(expiresAt, 2), 2);
    strictEqual(await store.sweepClaims(expiresAt, 2), 1);
    strictEqual((await store.claimed('default', 'key-1', 'claim 3', expiresAt))?.turn.ref.turn, 'turn of c3');
    strictEqual((await store.takeUnfinished('node-2')).filter(({ claimed }) => claimed).length, 1);
  },
};
