import { deepStrictEqual, rejects, strictEqual } from 'node:assert/strict';
import { StaleEpochError } from '../engine/ports.ts';
import { declare, type MakeStore, type Promises } from './contract.ts';
import type { AllStores as KeptStores } from './tenancy-changes.ts';
import { aNext, aText, anAccept, anApproval, anEnd } from './turns.ts';

/** What every `NodeStore` promises, and what becomes of the turns of nodes that are gone. */
export function nodeStoreContract(makeStores: MakeStore<KeptStores>): void {
  declare('node store', { ...listed, ...placed, ...taken, ...stopped }, makeStores);
}

const at = 1_700_000_000_500;
const main = { tenant: 'default', session: 'session of c', subpath: '' };

const listed: Promises<KeptStores> = {
  'nodes are listed from when they join until they leave, and beat meanwhile': async ({ nodes }) => {
    deepStrictEqual(await nodes.list(), []);
    await nodes.join('a', 'here');
    await nodes.join('b', 'there');
    const [a, b] = await nodes.list();
    strictEqual(await nodes.beat('a'), true);
    deepStrictEqual(await nodes.list(), [{ id: 'a', beat: (a?.beat ?? 0) + 1 }, b]);
    await nodes.leave('a');
    await nodes.leave('unknown');
    deepStrictEqual(await nodes.list(), [b]);
    strictEqual(await nodes.beat('a'), false);
    await rejects(nodes.join('b', 'there'));
  },

  'a node is removed once, and not when it has beaten since it was seen': async ({ nodes }) => {
    await nodes.join('a', 'here');
    const [seen] = await nodes.list();
    await nodes.beat('a');
    strictEqual(await nodes.evict(seen!), false);
    const [now] = await nodes.list();
    const evicted = await Promise.all([1, 2, 3].map(() => nodes.evict(now!)));
    strictEqual(evicted.filter(Boolean).length, 1);
    deepStrictEqual(await nodes.list(), []);
  },

  'of a place all nodes are removed, and no others': async ({ nodes }) => {
    for (const [id, place] of ['a here', 'b there', 'c here'].map((text) => text.split(' '))) {
      await nodes.join(id!, place!);
    }
    deepStrictEqual((await nodes.evictPlace('here')).toSorted(), ['a', 'c']);
    deepStrictEqual(await nodes.evictPlace('nowhere'), []);
    deepStrictEqual(
      (await nodes.list()).map(({ id }) => id),
      ['b'],
    );
  },
};

const placed: Promises<KeptStores> = {
  'of the places of files the one that is told first counts, whoever tells': async ({ nodes }) => {
    strictEqual(await nodes.keptPlace(null), null);
    const told = await Promise.all(['one', 'other'].map((name) => nodes.keptPlace(name)));
    strictEqual(told[0], told[1]);
    deepStrictEqual([await nodes.keptPlace('third'), await nodes.keptPlace(null)], told);
  },
};

const taken: Promises<KeptStores> = {
  'turns of nodes in the list stay theirs; all others are taken, each once': async ({ nodes, turns }) => {
    for (const node of ['node-1', 'node-2', 'node-3']) await nodes.join(node, node);
    const mine = await turns.accept(anAccept('mine'));
    await turns.accept({ ...anAccept('other'), node: 'node-3' });
    const gone = await turns.accept({ ...anAccept('gone', 'other'), node: 'never there' });
    const ended = await turns.accept({ ...anAccept('ended'), node: 'never there' });
    await turns.finish(ended.ref, anEnd);
    const took = await Promise.all(['node-1', 'node-2'].map((node) => turns.takeUnfinished(node)));
    deepStrictEqual(
      took.flat().map(({ turn }) => turn.ref),
      [{ ...gone.ref, epoch: gone.ref.epoch + 1 }],
    );
    deepStrictEqual(await turns.takeUnfinished('node-2'), []);
    await turns.append(mine.ref, at, [aText('a')]);
    await rejects(turns.append(gone.ref, at, [aText('a')]), StaleEpochError);
    await nodes.leave('node-3');
    strictEqual((await turns.takeUnfinished('node-1')).length, 1);
    deepStrictEqual(await turns.ofNode('node-3'), []);
  },

  'the turns of a node are those without an end, with the epochs they have now': async ({ nodes, turns }) => {
    await nodes.join('node-2', 'here');
    const { ref } = await turns.accept(anAccept('c'));
    const { ref: other } = await turns.accept(anAccept('d', 'other'));
    deepStrictEqual(
      (await turns.ofNode('node-1')).toSorted((a, b) => a.turn.localeCompare(b.turn)),
      [ref, other],
    );
    await turns.takeUnfinished('node-2');
    await turns.finish({ ...other, epoch: other.epoch + 1 }, anEnd);
    deepStrictEqual(await turns.ofNode('node-1'), []);
    deepStrictEqual(await turns.ofNode('node-2'), [{ ...ref, epoch: ref.epoch + 1 }]);
    const next = await turns.acceptNext({ ...aNext('d', 'next', 'other'), node: 'node-2' });
    strictEqual((await turns.ofNode('node-2')).length, 2);
    strictEqual(next?.ref.epoch, other.epoch + 2);
  },

  'a turn that is given up is taken by whoever looks, but only by who still has it': async ({ nodes, turns }) => {
    for (const node of ['node-1', 'node-2']) await nodes.join(node, node);
    const { ref } = await turns.accept(anAccept('c'));
    await turns.giveUp({ ...ref, epoch: ref.epoch + 1 });
    deepStrictEqual(await turns.takeUnfinished('node-2'), []);
    await turns.giveUp(ref);
    const [one] = await turns.takeUnfinished('node-2');
    strictEqual(one?.turn.ref.epoch, ref.epoch + 1);
    await turns.giveUp(ref);
    deepStrictEqual(await turns.takeUnfinished('node-1'), []);
  },

  'who has lost a turn writes nothing of it any more': async (stores) => {
    const { nodes, turns, approvals, images, transcripts, conversations } = stores;
    await nodes.join('node-2', 'here');
    const { ref } = await turns.accept(anAccept('c', 'default', [aText('a')]));
    await transcripts.append(main, [{ uuid: '1' }], ref);
    const [one] = await turns.takeUnfinished('node-2');
    const now = one!.turn.ref;
    const stale: (() => Promise<unknown>)[] = [
      () => turns.begin(ref, at),
      () => turns.append(ref, at, [aText('late')]),
      () => turns.append(ref, at, [], 'waiting'),
      () => turns.count(ref, { batches: 9, activeMs: 9 }),
      () => turns.finish(ref, { ...anEnd, result: { ...anEnd.result, stop_reason: 'timeout' } }),
      () => turns.withdraw(ref),
      () => approvals.request(ref, ...anApproval(ref, 'late')),
      () => images.before(ref, 'file', 'late'),
      () => transcripts.append(main, [{ uuid: 'late' }], ref),
    ];
    const [approval, event] = anApproval(now, 'asked');
    await approvals.request(now, approval, event);
    const before = [await turns.read('default', 'c', 0, 100), await turns.get('default', ref.turn)];
    for (const write of stale) await rejects(write(), StaleEpochError, write.toString());
    deepStrictEqual([await turns.read('default', 'c', 0, 100), await turns.get('default', ref.turn)], before);
    deepStrictEqual(await approvals.get('default', approval.id), approval);
    deepStrictEqual(await images.ofConversation('default', 'c'), []);
    await transcripts.append(main, [{ uuid: '2' }], now);
    deepStrictEqual(await transcripts.load(main), [{ uuid: '1' }, { uuid: '2' }]);
    strictEqual((await conversations.get('default', 'c'))?.status, 'waiting');
  },

  'a transcript is written for a turn until its conversation goes on without it': async (stores) => {
    const { turns, transcripts, conversations } = stores;
    const { ref } = await turns.accept(anAccept('c'));
    await turns.finish(ref, anEnd);
    const idle = { ...ref, turn: '' };
    await transcripts.append(main, [{ n: 'after the end' }], ref);
    await transcripts.append(main, [{ n: 'warmed' }], idle);
    const other = { ...ref, tenant: 'other' };
    for (const writer of [other, { ...idle, tenant: 'other' }, { ...ref, epoch: 9 }, { ...idle, epoch: 9 }]) {
      await rejects(transcripts.append(main, [{ n: 'never' }], writer), StaleEpochError);
    }
    const next = await turns.acceptNext(aNext('c', 'next'));
    for (const writer of [ref, idle, { ...ref, epoch: next!.ref.epoch }]) {
      await rejects(transcripts.append(main, [{ n: 'late' }], writer), StaleEpochError);
    }
    await transcripts.append(main, [{ n: 'next' }], next!.ref);
    await conversations.delete('default', 'c');
    await rejects(transcripts.append(main, [{ n: 'deleted' }], next!.ref), StaleEpochError);
    deepStrictEqual(
      (await transcripts.load(main))?.map(({ n }) => n),
      ['after the end', 'warmed', 'next'],
    );
  },

  'reservations of nodes in the list stay, also of turns that are not there yet': async ({ nodes, budgets, turns }) => {
    await nodes.join('node-1', 'here');
    const { ref } = await turns.accept(anAccept('taken'));
    const names = ['coming', 'lost'].map((turn) => ({ tenant: 'default', conversation: 'c', turn }));
    for (const [turn, node] of [
      [ref, 'gone'],
      [names[0]!, 'node-1'],
      [names[1]!, 'gone'],
    ] as const) {
      await budgets.reserve({ turn, key: 'key-1', node }, 1, []);
    }
    const left = () => Promise.all([ref, ...names].map((name) => budgets.reserved(name)));
    await budgets.releaseEnded();
    deepStrictEqual(await left(), [1, 1, null]);
    await turns.finish(ref, anEnd);
    await budgets.releaseEnded();
    deepStrictEqual(await left(), [null, 1, null]);
  },
};

const stopped: Promises<KeptStores> = {
  'a turn that is to be stopped is told to its node, and to the next one that has it': async ({ nodes, turns }) => {
    for (const node of ['node-1', 'node-2']) await nodes.join(node, node);
    const { ref } = await turns.accept(anAccept('c'));
    const { ref: other } = await turns.accept(anAccept('d'));
    const named = { tenant: 'default', conversation: 'c' };
    deepStrictEqual(await turns.askStop('default', 'c'), { turn: ref.turn, node: 'node-1' });
    deepStrictEqual(await turns.askStop('other', 'c'), null);
    deepStrictEqual(await turns.askedToStop('node-1'), [named]);
    deepStrictEqual(await turns.askedToStop('node-2'), []);
    await turns.giveUp(ref);
    const [one] = await turns.takeUnfinished('node-2');
    deepStrictEqual([await turns.askedToStop('node-1'), await turns.askedToStop('node-2')], [[], [named]]);
    await turns.finish(one!.turn.ref, anEnd);
    deepStrictEqual(await turns.askedToStop('node-2'), []);
    deepStrictEqual(await turns.askStop('default', 'c'), null);
    await turns.append(other, at, [aText('a')]);
  },

  'a conversation ends by wish unless a turn runs, and then it has no next one': async ({ turns, conversations }) => {
    const { ref } = await turns.accept(anAccept('c'));
    strictEqual(await conversations.end('default', 'c'), false);
    await turns.append(ref, at, [], 'waiting');
    strictEqual(await conversations.end('default', 'c'), false);
    await turns.finish(ref, anEnd);
    strictEqual(await conversations.end('other', 'c'), true);
    strictEqual((await conversations.get('default', 'c'))?.status, 'idle');
    for (let count = 0; count < 2; count += 1) strictEqual(await conversations.end('default', 'c'), true);
    strictEqual(await turns.acceptNext(aNext('c', 'next')), null);
    strictEqual((await conversations.get('default', 'c'))?.status, 'ended');
  },

  'a turn of which nothing has run is withdrawn with its conversation and its claim': async (stores) => {
    const { turns, conversations } = stores;
    const { ref } = await turns.accept(anAccept('c'));
    await rejects(turns.withdraw({ ...ref, tenant: 'other' }), StaleEpochError);
    await turns.withdraw(ref);
    strictEqual(await conversations.get('default', 'c'), null);
    await turns.accept(anAccept('c'));
  },
};
