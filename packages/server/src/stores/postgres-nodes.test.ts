import { deepStrictEqual, ok, rejects, strictEqual } from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { leftOutWithoutPostgres } from '../../../../test/support/postgres.ts';
import { chainStart, verifyChain } from '../engine/audit-chain.ts';
import { ConversationExistsError, StaleEpochError } from '../engine/ports.ts';
import type { KeptStores } from '../testing/all-stores.ts';
import { approvalStoreContract } from '../testing/approval-store.ts';
import { anEntry } from '../testing/audit-entries.ts';
import { auditStoreContract } from '../testing/audit-store.ts';
import { budgetStoreContract } from '../testing/budget-store.ts';
import { claimContract } from '../testing/claim-store.ts';
import { conversationStoreContract } from '../testing/conversation-store.ts';
import { nodeStoreContract } from '../testing/node-store.ts';
import { postgresForTests } from '../testing/postgres.ts';
import { ticketStoreContract } from '../testing/ticket-store.ts';
import { aNext, aText, anAccept, anApproval, anEnd } from '../testing/turns.ts';

const at = 1_700_000_001_500;
const times = <T>(count: number, one: (index: number) => T): T[] =>
  Array.from({ length: count }, (_, index) => one(index));

/** Stores whose every call is the next process's, so that no two calls in a row are of one. */
function taking(turns: readonly KeptStores[]): KeptStores {
  let calls = 0;
  const entries = Object.entries(turns[0]!).map(([store, methods]) => {
    const taken = Object.keys(methods as object).map((name) => {
      const call = (...args: unknown[]) => {
        const node = turns[(calls += 1) % turns.length] as unknown as Record<string, Record<string, Function>>;
        return node[store]![name]!(...args) as unknown;
      };
      return [name, call];
    });
    return [store, Object.fromEntries(taken)];
  });
  return Object.fromEntries(entries) as KeptStores;
}

type Race = (t: TestContext, one: KeptStores, other: KeptStores) => Promise<void>;

function declareRaces([one, other]: readonly [KeptStores, KeptStores], clear: () => Promise<void>): void {
  for (const [promise, race] of Object.entries(races)) {
    void test(`two processes: ${promise}`, async (t) => {
      await clear();
      await race(t, one, other);
    });
  }
}

const fulfilled = (results: readonly PromiseSettledResult<unknown>[]) =>
  results.filter(({ status }) => status === 'fulfilled').length;

const races: Readonly<Record<string, Race>> = {
  'one of two makes a conversation, and one takes its next turn': async (_, one, other) => {
    for (const name of times(20, (index) => `c${index}`)) {
      const again = anAccept(name);
      const made = await Promise.allSettled([
        one.turns.accept(anAccept(name)),
        other.turns.accept({
          ...again,
          turn: `b ${name}`,
          conversation: { ...again.conversation, sdkSession: `b ${name}` },
        }),
      ]);
      strictEqual(fulfilled(made), 1);
      const refused = made.find((result) => result.status === 'rejected');
      ok(refused?.reason instanceof ConversationExistsError, String(refused?.reason));
      const [{ turn } = { turn: null }] = await one.turns.takeUnfinished('node-2');
      await one.turns.finish(turn!.ref, anEnd);
      const next = await Promise.all([
        one.turns.acceptNext(aNext(name, `one of ${name}`)),
        other.turns.acceptNext(aNext(name, `other of ${name}`)),
      ]);
      strictEqual(next.filter((taken) => taken !== null).length, 1);
      const taken = next.find((each) => each !== null);
      await other.turns.finish(taken!.ref, anEnd);
    }
  },

  'the log of a conversation has no gap, whoever writes, and one end': async (_, one, other) => {
    const { ref } = await one.turns.accept(anAccept('c'));
    await Promise.all(times(60, (index) => [one, other][index % 2]!.turns.append(ref, at, [aText('a'), aText('b')])));
    const ends = times(10, (index) =>
      [one, other][index % 2]!.turns.finish(ref, {
        ...anEnd,
        result: { ...anEnd.result, request_id: `end ${index}` },
      }),
    );
    const late = times(10, (index) => [one, other][index % 2]!.turns.append(ref, at, [aText('late')]));
    const [results] = await Promise.all([Promise.allSettled(ends), Promise.allSettled(late)]);
    strictEqual(fulfilled(results), 1);
    for (const result of results) if (result.status === 'rejected') ok(result.reason instanceof StaleEpochError);
    const log = await other.turns.read('default', 'c', 0, 1000);
    deepStrictEqual(
      log.map(({ seq }) => seq),
      log.map((_event, index) => index + 1),
    );
    strictEqual(log.at(-1)?.body.type, 'result');
    strictEqual(log.filter(({ body }) => body.type === 'result').length, 1);
  },

  'whoever takes a turn over keeps the last one from writing': async (_, one, other) => {
    const { ref } = await one.turns.accept(anAccept('c'));
    const writing = times(20, () => one.turns.append(ref, at, [aText('a')]));
    const [taken] = await other.turns.takeUnfinished('node-2');
    const results = await Promise.allSettled(writing);
    for (const result of results) if (result.status === 'rejected') ok(result.reason instanceof StaleEpochError);
    await rejects(one.turns.append(ref, at, [aText('b')]), StaleEpochError);
    await rejects(one.images.before(ref, '/a', 'x'), StaleEpochError);
    const [event] = await other.turns.append(taken!.turn.ref, at, [aText('c')]);
    strictEqual(event?.seq, fulfilled(results) + 1);
  },

  'of two that take over what a node left, each turn has one, and its conversation goes on': async (_, one, other) => {
    await Promise.all([one.nodes.join('one', 'one'), other.nodes.join('other', 'other')]);
    for (const round of times(8, String)) {
      const refs = await Promise.all(
        times(5, async (index) => (await one.turns.accept(anAccept(`${round} ${index}`))).ref),
      );
      // What the node does that is gone in fact goes on a little.
      const late = Promise.allSettled(refs.slice(0, 2).map((ref) => one.turns.finish(ref, anEnd)));
      const took = await Promise.all([one.turns.takeUnfinished('one'), other.turns.takeUnfinished('other')]);
      const ended = fulfilled(await late);
      const now = took.flat().map(({ turn }) => turn.ref);
      strictEqual(now.length + ended, 5);
      strictEqual(new Set(now.map(({ turn }) => turn)).size, now.length);
      for (const ref of now) await other.turns.finish(ref, anEnd);
      for (const { conversation } of refs) {
        const next = await one.turns.acceptNext(aNext(conversation, `next of ${conversation}`));
        await one.turns.finish(next!.ref, anEnd);
      }
    }
  },

  'a transcript that is written while its turn is taken over is whole for who takes it': async (_, one, other) => {
    await other.nodes.join('other', 'other');
    for (const name of times(10, (index) => `c${index}`)) {
      const { ref } = await one.turns.accept(anAccept(name));
      const key = { tenant: 'default', session: `session of ${name}`, subpath: '' };
      const writing = Promise.allSettled(times(10, (n) => one.transcripts.append(key, [{ n }], ref)));
      const [taken] = await other.turns.takeUnfinished('other');
      const seen = (await other.transcripts.load(key)) ?? [];
      const results = await writing;
      for (const result of results) if (result.status === 'rejected') ok(result.reason instanceof StaleEpochError);
      deepStrictEqual(await other.transcripts.load(key), seen.length === 0 ? null : seen);
      strictEqual(fulfilled(results), seen.length);
      await other.turns.finish(taken!.turn.ref, anEnd);
    }
  },

  'an approval is decided once, by a human or the end of its turn': async (_, one, other) => {
    for (const name of times(20, (index) => `c${index}`)) {
      const { ref } = await one.turns.accept(anAccept(name));
      const [approval, event] = anApproval(ref, name);
      await one.approvals.request(ref, approval, event);
      const made = (by: string) =>
        ({ status: 'allowed', at, by, decision: { decision: 'allow' } }) as unknown as Parameters<
          typeof one.approvals.decide
        >[2];
      const [first, second] = await Promise.all([
        one.approvals.decide('default', approval.id, made('first'), anEntry(name)),
        other.approvals.decide('default', approval.id, made('second'), anEntry(name)),
        other.turns.finish(ref, anEnd),
      ]);
      ok(first === null || second === null);
      const stored = await one.approvals.get('default', approval.id);
      strictEqual(stored?.decidedBy, (first ?? second)?.decidedBy ?? 'service');
    }
    const lines = await one.audit.read(null, 0, 100);
    strictEqual(verifyChain(lines, chainStart), null);
  },

  'entries of one transcript are all kept, those that come twice once': async (_, one, other) => {
    const key = { tenant: 'default', session: 's', subpath: '' };
    const uuids = times(40, String);
    await Promise.all(
      uuids.flatMap((uuid) => [one, other].map(({ transcripts }) => transcripts.append(key, [{ uuid }, { of: uuid }]))),
    );
    const entries = (await one.transcripts.load(key)) ?? [];
    deepStrictEqual(entries.flatMap(({ uuid }) => (typeof uuid === 'string' ? uuid : [])).toSorted(), uuids.toSorted());
    strictEqual(entries.length, 120);
  },

  'a fork is as the conversation was before the next turn, or is not made': async (_, one, other) => {
    const { ref } = await one.turns.accept(anAccept('c'));
    await one.turns.finish(ref, anEnd);
    for (const name of times(10, String)) {
      const { epoch } = (await one.conversations.get('default', 'c'))!;
      const fork = { tenant: 'default', from: 'c', epoch, id: name, key: 'key-1', sdkSession: `of ${name}`, at };
      const [made, next] = await Promise.all([
        one.conversations.fork(fork),
        other.turns.acceptNext(aNext('c', `turn ${name}`)),
      ]);
      const log = await one.turns.read('default', name, 0, 1000);
      strictEqual(log.length, made?.lastSeq ?? 0);
      await one.turns.finish(next!.ref, anEnd);
    }
  },
};

if (!leftOutWithoutPostgres('several processes on one Postgres')) {
  const postgres = await postgresForTests();
  const url = await postgres.newDatabase();
  const nodes = [postgres.open(null, url), postgres.open(null, url)] as const;
  const both = taking(nodes);
  const clear = async () => {
    await postgres.clear(url);
    return both;
  };
  // Those whose promises do not name the order of calls that nobody waits for.
  claimContract(async () => (await clear()).turns);
  conversationStoreContract(clear);
  approvalStoreContract(clear);
  ticketStoreContract(async () => (await clear()).tickets);
  budgetStoreContract(clear);
  nodeStoreContract(clear);
  auditStoreContract(clear);
  declareRaces(nodes, async () => void (await clear()));
}
