import { deepStrictEqual, strictEqual } from 'node:assert/strict';
import type { Account, BudgetStore, Limit, Reserver, TurnName, TurnStore, UsageStore } from '../engine/ports.ts';
import { budgetModel } from './budget-model.ts';
import { declare, type MakeStore, type Promises } from './contract.ts';
import { anAccept, anEnd } from './turns.ts';
import { aCall } from './usage-store.ts';

interface Stores {
  readonly budgets: BudgetStore;
  readonly usage: UsageStore;
  readonly turns: TurnStore;
}

/** What every `BudgetStore` promises, with what metered calls do to reservations. */
export function budgetStoreContract(makeStore: MakeStore<Stores>): void {
  const property = {
    'after any reserving, spending and releasing every account stands as a naive model of it': budgetModel,
  };
  declare('budget store', { ...reserving, ...spending, ...releasing, ...property }, makeStore);
}

const everything: Account = { tenant: 'default', key: null, conversation: null, since: 0 };

const aTurn = (turn: string, part: Partial<TurnName> = {}): TurnName => ({
  tenant: 'default',
  conversation: 'c',
  turn,
  ...part,
});

const by = (turn: string, part: Partial<TurnName> = {}, key = 'key-1'): Reserver => ({
  turn: aTurn(turn, part),
  key,
  node: 'node-1',
});

const limit = (usd: number, part: Partial<Account> = {}): Limit => ({ account: { ...everything, ...part }, usd });

/** Meters a call of the turn. */
const spend = ({ usage }: Stores, id: string, costUsd: number | null, { turn, key }: Reserver, at?: number) =>
  usage.record({ ...aCall(id, { ...turn, epoch: 1 }, at), key, costUsd });

const reserving: Promises<Stores> = {
  'a turn reserves what it wants, or what is left of the tightest limit': async ({ budgets }) => {
    strictEqual(await budgets.reserve(by('free'), 7, []), 7);
    strictEqual(await budgets.reserve(by('a'), 2, [limit(10)]), 2);
    strictEqual(await budgets.reserve(by('b'), 5, [limit(10), limit(4, { key: 'key-1' })]), null);
    strictEqual(await budgets.reserve(by('b'), 5, [limit(10), limit(9.5, { key: 'key-1' })]), 0.5);
    deepStrictEqual(await budgets.standing(everything, null), { spentUsd: 0, reservedUsd: 9.5 });
    for (const [turn, usd] of [
      ['free', 7],
      ['a', 2],
      ['b', 0.5],
      ['unknown', null],
    ] as const) {
      strictEqual(await budgets.reserved(aTurn(turn)), usd);
    }
  },

  'a limit with nothing left lets nothing be reserved, whatever the others have left': async ({ budgets }) => {
    await budgets.reserve(by('a'), 1, []);
    for (const limits of [[limit(1)], [limit(0.5)], [limit(0)], [limit(9), limit(1)], [limit(1), limit(9)]]) {
      for (const want of [0, 5]) strictEqual(await budgets.reserve(by('b'), want, limits), null);
      strictEqual(await budgets.reserved(aTurn('b')), null);
    }
    deepStrictEqual(await budgets.standing(everything, null), { spentUsd: 0, reservedUsd: 1 });
  },

  'a turn that wants nothing reserves nothing where there is room': async ({ budgets }) => {
    strictEqual(await budgets.reserve(by('a'), 0, [limit(1)]), 0);
    strictEqual(await budgets.reserved(aTurn('a')), 0);
    deepStrictEqual(await budgets.standing(everything, null), { spentUsd: 0, reservedUsd: 0 });
  },

  'a turn that reserves again has the new reservation alone, and none when nothing is left': async ({ budgets }) => {
    strictEqual(await budgets.reserve(by('a'), 3, [limit(4)]), 3);
    strictEqual(await budgets.reserve(by('a'), 9, [limit(4)]), 4);
    strictEqual(await budgets.reserve(by('a'), 1, [limit(4)]), 1);
    deepStrictEqual(await budgets.standing(everything, null), { spentUsd: 0, reservedUsd: 1 });
    strictEqual(await budgets.reserve(by('a', {}, 'key-2'), 2, [limit(4, { key: 'key-2' })]), 2);
    deepStrictEqual(await budgets.standing({ ...everything, key: 'key-1' }, null), { spentUsd: 0, reservedUsd: 0 });
    strictEqual(await budgets.reserve(by('a'), 1, [limit(0)]), null);
    strictEqual(await budgets.reserved(aTurn('a')), null);
  },

  'twenty that reserve at once never have more than the limit together': async (stores) => {
    const { budgets } = stores;
    await spend(stores, 'before', 1, by('before'));
    const turns = Array.from({ length: 20 }, (_, index) => by(`t${index}`));
    const got = await Promise.all(turns.map((turn) => budgets.reserve(turn, 0.75, [limit(4)])));
    deepStrictEqual(
      got.filter((usd) => usd !== null).toSorted((one, other) => one - other),
      [0.75, 0.75, 0.75, 0.75],
    );
    deepStrictEqual(await budgets.standing(everything, null), { spentUsd: 1, reservedUsd: 3 });
    const kept = await Promise.all(turns.map(({ turn }) => budgets.reserved(turn)));
    deepStrictEqual(kept, got);
  },

  'amounts that binary numbers cannot tell are never reserved below nothing': async (stores) => {
    const { budgets } = stores;
    for (let index = 0; index < 30; index += 1) {
      const got = await budgets.reserve(by(`t${index}`), 0.1, [limit(1)]);
      strictEqual(got === null || (got > 0 && got <= 0.1), true, String(got));
      await spend(stores, `call ${index}`, 0.1, by(`t${index}`));
      const left = await budgets.reserved(aTurn(`t${index}`));
      strictEqual(left === null || (left >= 0 && left < 1e-9), true, String(left));
    }
  },
};

const spending: Promises<Stores> = {
  'what a call costs is taken from what its turn has reserved, never more than that': async (stores) => {
    const { budgets } = stores;
    await budgets.reserve(by('a'), 2, []);
    await budgets.reserve(by('b'), 2, []);
    await spend(stores, 'one', 0.5, by('a'));
    strictEqual(await budgets.reserved(aTurn('a')), 1.5);
    deepStrictEqual(await budgets.standing(everything, null), { spentUsd: 0.5, reservedUsd: 3.5 });
    await spend(stores, 'two', 5, by('a'));
    strictEqual(await budgets.reserved(aTurn('a')), 0);
    await spend(stores, 'three', 5, by('a'));
    strictEqual(await budgets.reserved(aTurn('a')), 0);
    deepStrictEqual(await budgets.standing(everything, null), { spentUsd: 10.5, reservedUsd: 2 });
  },

  'a call that has no price, or is recorded again, takes nothing': async (stores) => {
    const { budgets } = stores;
    await budgets.reserve(by('a'), 2, []);
    await spend(stores, 'unpriced', null, by('a'));
    await spend(stores, 'free', 0, by('a'));
    await Promise.all(Array.from({ length: 20 }, () => spend(stores, 'same', 0.5, by('a'))));
    strictEqual(await budgets.reserved(aTurn('a')), 1.5);
    deepStrictEqual(await budgets.standing(everything, null), { spentUsd: 0.5, reservedUsd: 1.5 });
  },

  'an account is what its tenant, its key and its conversation spent and reserved since then': async (stores) => {
    const { budgets } = stores;
    const days = [Date.parse('2024-02-29T23:59:59.999Z'), Date.parse('2024-03-01'), Date.parse('2024-03-02')];
    let amount = 1;
    for (const key of ['key-1', 'key-2']) {
      for (const conversation of ['c', 'd']) {
        const reserver = by(`${key} ${conversation}`, { conversation }, key);
        for (const day of days) {
          await spend(stores, `${key} ${conversation} ${day}`, amount, reserver, day);
          amount *= 2;
        }
        await budgets.reserve(reserver, amount * 1000, []);
      }
    }
    const standing = async (part: Partial<Account>) => {
      const { spentUsd, reservedUsd } = await budgets.standing({ ...everything, ...part }, null);
      return [spentUsd.toString(2), (reservedUsd / 1000 / 8).toString(2)];
    };
    const since = days[1] ?? 0;
    deepStrictEqual(await standing({}), ['111111111111', '1001001001']);
    deepStrictEqual(await standing({ since }), ['110110110110', '1001001001']);
    deepStrictEqual(await standing({ key: 'key-1', since }), ['110110', '1001']);
    deepStrictEqual(await standing({ key: 'key-2' }), ['111111000000', '1001000000']);
    deepStrictEqual(await standing({ conversation: 'c', since }), ['110000110', '1000001']);
    deepStrictEqual(await standing({ conversation: 'd', key: 'key-1' }), ['111000', '1000']);
    deepStrictEqual(await standing({ key: 'nobody' }), ['0', '0']);
    deepStrictEqual(await standing({ conversation: 'nobody', since }), ['0', '0']);
  },

  'one turn is left out of what is reserved, and one of another tenant never': async ({ budgets }) => {
    await budgets.reserve(by('a'), 1, []);
    await budgets.reserve(by('b'), 2, []);
    await budgets.reserve(by('a', { tenant: 'other' }), 4, []);
    const reserved = async (except: TurnName | null) => (await budgets.standing(everything, except)).reservedUsd;
    strictEqual(await reserved(null), 3);
    strictEqual(await reserved(aTurn('a')), 2);
    strictEqual(await reserved(aTurn('unknown')), 3);
    strictEqual(await reserved(aTurn('a', { tenant: 'other' })), 3);
  },
};

const releasing: Promises<Stores> = {
  'a turn is released once and alone, and spends without a reservation after that': async (stores) => {
    const { budgets } = stores;
    const others = [by('b'), by('a', { tenant: 'other' })];
    for (const reserver of [by('a'), ...others]) await budgets.reserve(reserver, 2, []);
    await budgets.release(aTurn('a', { conversation: 'another' }));
    strictEqual(await budgets.reserved(aTurn('a')), 2);
    for (let count = 0; count < 2; count += 1) await budgets.release(aTurn('a'));
    await budgets.release(aTurn('unknown'));
    strictEqual(await budgets.reserved(aTurn('a')), null);
    for (const { turn } of others) strictEqual(await budgets.reserved(turn), 2);
    await spend(stores, 'late', 1, by('a'));
    strictEqual(await budgets.reserved(aTurn('a')), null);
    deepStrictEqual(await budgets.standing(everything, null), { spentUsd: 1, reservedUsd: 2 });
  },

  'what is released can be reserved again': async ({ budgets }) => {
    strictEqual(await budgets.reserve(by('a'), 9, [limit(4)]), 4);
    strictEqual(await budgets.reserve(by('b'), 9, [limit(4)]), null);
    await budgets.release(aTurn('a'));
    strictEqual(await budgets.reserve(by('b'), 9, [limit(4)]), 4);
  },

  'turns that have an end, or are not there, are released, of all tenants': async ({ budgets, turns }) => {
    const names: TurnName[] = [];
    for (const tenant of ['default', 'other']) {
      for (const conversation of ['running', 'waiting', 'ended']) {
        // An equal turn of the other tenant is where this one is not.
        const { ref } = await turns.accept(anAccept(`${conversation} of ${tenant}`, tenant));
        if (conversation === 'waiting') await turns.append(ref, 1, [], 'waiting');
        if (conversation === 'ended') await turns.finish(ref, anEnd);
        names.push(ref, { ...ref, tenant: tenant === 'other' ? 'default' : 'other' });
      }
    }
    for (const turn of names) await budgets.reserve({ turn, key: 'key-1', node: 'node-1' }, 1, []);
    await budgets.releaseEnded();
    const kept: string[] = [];
    for (const turn of names) {
      if ((await budgets.reserved(turn)) !== null) kept.push(`${turn.tenant}: ${turn.conversation}`);
    }
    deepStrictEqual(kept, [
      'default: running of default',
      'default: waiting of default',
      'other: running of other',
      'other: waiting of other',
    ]);
  },
};
