import { deepStrictEqual, rejects, strictEqual } from 'node:assert/strict';
import { StaleEpochError, type Approval, type ApprovalStore, type TurnRef } from '../engine/ports.ts';
import { awkwardJson, declare, type ConversationStores, type MakeStore, type Promises } from './contract.ts';
import { aNext, aText, anAccept, anApproval, anEnd } from './turns.ts';

/** What every `ApprovalStore` promises. */
export function approvalStoreContract(makeStores: MakeStore<ConversationStores>): void {
  declare('approval store', promises, makeStores);
}

const [{ createdAt, expiresAt }] = anApproval({ tenant: '', conversation: '', turn: '', epoch: 0 }, '');
const nothing = { message: null, input: null, rule: null };
const allow = { status: 'allowed', at: createdAt + 1, by: 'key-2', decision: nothing } as const;
const everything = { tenant: 'default', key: null, status: null, before: null, limit: 100 } as const;
const ids = (approvals: readonly Approval[]) => approvals.map(({ id }) => id);

async function aRunning({ turns }: ConversationStores, conversation = 'c', tenant = 'default'): Promise<TurnRef> {
  const { ref } = await turns.accept(anAccept(conversation, tenant));
  await turns.begin(ref, createdAt);
  return ref;
}

/** Requests approvals of a turn by name. */
async function ask({ approvals }: ConversationStores, ref: TurnRef, ...names: string[]): Promise<void> {
  for (const name of names) await approvals.request(ref, ...anApproval(ref, name));
}

async function states({ turns, conversations }: ConversationStores, { tenant, conversation, turn }: TurnRef) {
  return [(await turns.get(tenant, turn))?.state, (await conversations.get(tenant, conversation))?.status];
}

const requests: Promises<ConversationStores> = {
  'a request is kept with its event, and turn and conversation wait': async (stores) => {
    const { approvals, turns } = stores;
    const ref = await aRunning(stores);
    await turns.append(ref, createdAt, [aText('a')]);
    const [approval, body] = anApproval(ref, 'one');
    const event = { seq: 2, turn: ref.turn, at: createdAt, body };
    deepStrictEqual(await approvals.request(ref, approval, body), { approval, event });
    deepStrictEqual(await approvals.get('default', approval.id), approval);
    deepStrictEqual(await turns.read('default', 'c', 1, 10), [event]);
    deepStrictEqual(await states(stores, ref), ['waiting', 'waiting']);
    strictEqual(await approvals.get('other', approval.id), null);
    strictEqual(await approvals.get('default', 'unknown'), null);
  },

  'a call that is asked again has the approval it had, and no second event': async (stores) => {
    const { approvals, turns } = stores;
    const ref = await aRunning(stores);
    const [approval, body] = anApproval(ref, 'one');
    await approvals.request(ref, approval, body);
    await turns.append(ref, createdAt, [], 'running');
    const again = () => approvals.request(ref, { ...approval, id: 'another' }, body);
    deepStrictEqual(await again(), { approval, event: null });
    deepStrictEqual(await states(stores, ref), ['waiting', 'waiting']);

    const decided = await approvals.decide('default', approval.id, allow);
    await turns.append(ref, createdAt, [], 'running');
    const [taken] = await turns.takeUnfinished('node-2');
    await rejects(again(), StaleEpochError);
    const now = taken?.turn.ref as TurnRef;
    deepStrictEqual(await approvals.request(now, approval, body), { approval: decided, event: null });
    deepStrictEqual(await states(stores, ref), ['running', 'running']);
    strictEqual((await turns.read('default', 'c', 0, 10)).length, 1);
    deepStrictEqual(await approvals.get('default', 'another'), null);
  },

  'the same call id in another turn is another call': async (stores) => {
    const { approvals, turns } = stores;
    const ref = await aRunning(stores);
    await ask(stores, ref, 'one');
    await turns.finish(ref, anEnd);
    const next = (await turns.acceptNext(aNext('c', 'next')))?.ref as TurnRef;
    const [approval, body] = anApproval(next, 'one');
    const { event } = await approvals.request(next, { ...approval, id: 'another' }, body);
    strictEqual(event?.seq, 4);
  },

  'a stale epoch, an ended turn and a deleted conversation ask for nothing': async (stores) => {
    const { approvals, turns, conversations } = stores;
    const ref = await aRunning(stores);
    const stale = (of: TurnRef) => rejects(approvals.request(of, ...anApproval(of, 'one')), StaleEpochError);
    await stale({ ...ref, epoch: ref.epoch + 1 });
    await stale({ ...ref, turn: 'unknown' });
    await stale({ ...ref, tenant: 'other' });
    deepStrictEqual(await states(stores, ref), ['running', 'running']);
    await turns.takeUnfinished('node-2');
    await stale(ref);
    const [taken] = await turns.takeUnfinished('node-2');
    const now = taken?.turn.ref as TurnRef;
    await turns.finish(now, anEnd);
    await stale(now);
    await conversations.delete('default', 'c');
    await stale(now);
    deepStrictEqual(await approvals.list(everything), []);
  },

  'what is asked comes back as it was, whatever it holds': async (stores) => {
    const { approvals } = stores;
    const ref = await aRunning(stores);
    for (const [index, input] of awkwardJson.entries()) {
      const [approval, body] = anApproval(ref, `call ${index}`);
      const asked = {
        ...approval,
        kind: 'question',
        input,
        diff: null,
        reason: 'why: \u0000 \ud800 \u{1f600}',
      } as const;
      await approvals.request(ref, asked, body);
      deepStrictEqual(await approvals.get('default', approval.id), asked);
      const decision = { message: 'no \u0000', input, rule: null };
      const decided = await approvals.decide('default', approval.id, { ...allow, status: 'denied', decision });
      deepStrictEqual(decided, { ...asked, status: 'denied', decidedAt: allow.at, decidedBy: 'key-2', decision });
      deepStrictEqual(await approvals.get('default', approval.id), decided);
    }
  },
};

const decisions: Promises<ConversationStores> = {
  'of two that decide at once, one does, and the row is its own': async (stores) => {
    const { approvals } = stores;
    await ask(stores, await aRunning(stores), 'one');
    const outcomes = await Promise.all([
      approvals.decide('default', 'approval one', allow),
      approvals.decide('default', 'approval one', { ...allow, status: 'denied', by: 'key-3' }),
    ]);
    const winners = outcomes.filter((outcome) => outcome !== null);
    strictEqual(winners.length, 1);
    deepStrictEqual(await approvals.get('default', 'approval one'), winners[0]);
    strictEqual(await approvals.decide('default', 'approval one', allow), null);
  },

  'nothing is decided once its time has passed': async (stores) => {
    const { approvals } = stores;
    await ask(stores, await aRunning(stores), 'one');
    strictEqual(await approvals.decide('default', 'approval one', { ...allow, at: expiresAt }), null);
    strictEqual((await approvals.get('default', 'approval one'))?.status, 'pending');
    const decided = await approvals.decide('default', 'approval one', { ...allow, at: expiresAt - 1 });
    strictEqual(decided?.status, 'allowed');
  },

  'a decision of another tenant, or of an unknown approval, is none': async (stores) => {
    const { approvals } = stores;
    await ask(stores, await aRunning(stores), 'one');
    await ask(stores, await aRunning(stores, 'c', 'other'), 'one');
    strictEqual(await approvals.decide('nobody', 'approval one', allow), null);
    strictEqual(await approvals.decide('default', 'unknown', allow), null);
    await approvals.decide('default', 'approval one', allow);
    strictEqual((await approvals.get('other', 'approval one'))?.status, 'pending');
  },

  'what nobody decided in time expires once, as many at a time as asked for': async (stores) => {
    const { approvals } = stores;
    await ask(stores, await aRunning(stores), 'one', 'two', 'three');
    await ask(stores, await aRunning(stores, 'c', 'other'), 'one');
    await approvals.decide('default', 'approval one', allow);
    deepStrictEqual(await approvals.expire(expiresAt - 1, 10), []);
    const some = await approvals.expire(expiresAt, 2);
    strictEqual(some.length, 2);
    const rest = await approvals.expire(expiresAt + 1, 10);
    const expired = [...some, ...rest];
    deepStrictEqual(expired.map(({ tenant, id }) => `${tenant} ${id}`).toSorted(), [
      'default approval three',
      'default approval two',
      'other approval one',
    ]);
    for (const one of expired) {
      deepStrictEqual([one.status, one.decidedBy, one.decision], ['expired', 'service', null]);
      deepStrictEqual(await approvals.get(one.tenant, one.id), one);
    }
    deepStrictEqual(
      some.map(({ decidedAt }) => decidedAt),
      [expiresAt, expiresAt],
    );
    deepStrictEqual(await approvals.expire(expiresAt + 1, 10), []);
  },

  'the pending ones of a turn expire when it ends as one that nobody answered in time': async (stores) => {
    const { approvals, turns } = stores;
    const ref = await aRunning(stores);
    await ask(stores, ref, 'one', 'two');
    await ask(stores, await aRunning(stores, 'd'), 'three');
    await approvals.decide('default', 'approval one', allow);
    await turns.finish(ref, { ...anEnd, result: { ...anEnd.result, stop_reason: 'timeout' } });
    deepStrictEqual(
      (await approvals.ofTurn('default', ref.turn)).map(({ status, decidedAt, decidedBy }) => [
        status,
        decidedAt,
        decidedBy,
      ]),
      [
        ['allowed', createdAt + 1, 'key-2'],
        ['expired', anEnd.at, 'service'],
      ],
    );
    strictEqual((await approvals.get('default', 'approval three'))?.status, 'pending');
  },

  'the pending ones of a turn are cancelled with its end': async (stores) => {
    const { approvals, turns } = stores;
    const ref = await aRunning(stores);
    await ask(stores, ref, 'one', 'two');
    const other = await aRunning(stores, 'c', 'other');
    await ask(stores, other, 'one');
    const decided = await approvals.decide('default', 'approval one', allow);
    await turns.finish(ref, anEnd);
    deepStrictEqual(await approvals.get('default', 'approval one'), decided);
    const cancelled = { status: 'cancelled', decidedAt: anEnd.at, decidedBy: 'service' };
    deepStrictEqual(await approvals.get('default', 'approval two'), { ...anApproval(ref, 'two')[0], ...cancelled });
    deepStrictEqual(await approvals.get('other', 'approval one'), anApproval(other, 'one')[0]);
    strictEqual(await approvals.decide('default', 'approval two', allow), null);
  },
};

const readings: Promises<ConversationStores> = {
  'pages hold every approval once, newest first, by key and status': async (stores) => {
    const { approvals } = stores;
    const ref = await aRunning(stores);
    for (let index = 0; index < 7; index += 1) {
      const [approval, body] = anApproval(ref, `${index}`);
      const key = index % 2 ? 'odd' : 'even';
      await approvals.request(ref, { ...approval, key, createdAt: createdAt + Math.floor(index / 3) }, body);
    }
    await ask(stores, await aRunning(stores, 'c', 'other'), '7');
    const seen: string[] = [];
    for (let before: { createdAt: number; id: string } | null = null; ;) {
      const rows: Awaited<ReturnType<ApprovalStore['list']>> = await approvals.list({
        ...everything,
        before,
        limit: 2,
      });
      seen.push(...ids(rows));
      const last = rows.at(-1);
      if (!last) break;
      before = { createdAt: last.createdAt, id: last.id };
    }
    deepStrictEqual(
      seen,
      [6, 5, 4, 3, 2, 1, 0].map((index) => `approval ${index}`),
    );
    deepStrictEqual(ids(await approvals.ofTurn('default', ref.turn)), seen.toReversed());
    deepStrictEqual(await approvals.ofTurn('nobody', ref.turn), []);
    await approvals.decide('default', 'approval 3', allow);
    const odd = { ...everything, key: 'odd' };
    deepStrictEqual(ids(await approvals.list(odd)), ['approval 5', 'approval 3', 'approval 1']);
    deepStrictEqual(ids(await approvals.list({ ...odd, status: 'pending' })), ['approval 5', 'approval 1']);
    deepStrictEqual(ids(await approvals.list({ ...everything, status: 'allowed' })), ['approval 3']);
  },

  'of those that are named the settled ones are told, of all tenants and in any way': async (stores) => {
    const { approvals, turns } = stores;
    const ref = await aRunning(stores);
    await ask(stores, ref, 'unnamed', 'allowed', 'denied', 'cancelled');
    const other = await aRunning(stores, 'c', 'other');
    await ask(stores, other, 'expired');
    await ask(stores, await aRunning(stores, 'd'), 'pending');
    for (const id of ['unnamed', 'allowed']) await approvals.decide('default', `approval ${id}`, allow);
    // However wrong the clock is of who decides.
    await approvals.decide('default', 'approval denied', { ...allow, status: 'denied', at: 1 });
    await turns.finish(ref, anEnd);
    await turns.finish(other, { ...anEnd, result: { ...anEnd.result, stop_reason: 'timeout' } });
    const names = ['allowed', 'cancelled', 'denied', 'expired'];
    const of = (tenant: string) => [...names, 'pending'].map((name) => ({ tenant, id: `approval ${name}` }));
    const named = [...of('default'), ...of('other')];
    const settled = await approvals.settledOf(named);
    const told = settled.map(({ id, status }) => `${id}, ${status}`);
    deepStrictEqual(new Set(told), new Set(names.map((name) => `approval ${name}, ${name}`)));
    for (const one of settled) deepStrictEqual(await approvals.get(one.tenant, one.id), one);
    const many = Array.from({ length: 450 }, (_, index) => ({ tenant: 'default', id: `none ${index}` }));
    deepStrictEqual(ids(await approvals.settledOf([...many, named[0]!])), ['approval allowed']);
    deepStrictEqual(await approvals.settledOf([]), []);
  },

  'the rules of a conversation are those it was allowed with, each once': async (stores) => {
    const { approvals, turns } = stores;
    const ref = await aRunning(stores);
    const given = async (id: string, status: 'allowed' | 'denied', rule: string | null, tenant = 'default') => {
      await approvals.decide(tenant, `approval ${id}`, { ...allow, status, decision: { ...nothing, rule } });
    };
    await ask(stores, ref, 'a', 'b', 'c', 'd', 'e');
    await ask(stores, await aRunning(stores, 'd'), 'f');
    await ask(stores, await aRunning(stores, 'c', 'other'), 'a');
    await given('a', 'allowed', 'Edit');
    await given('b', 'allowed', 'Edit');
    await given('c', 'denied', 'never');
    await given('d', 'allowed', null);
    await given('e', 'allowed', 'Bash(make *)');
    await given('f', 'allowed', 'of another conversation');
    await given('a', 'allowed', 'of another tenant', 'other');
    await turns.finish(ref, anEnd);
    deepStrictEqual((await approvals.rules('default', 'c')).toSorted(), ['Bash(make *)', 'Edit']);
    deepStrictEqual(await approvals.rules('default', 'unknown'), []);
  },
};

const promises: Promises<ConversationStores> = { ...requests, ...decisions, ...readings };
