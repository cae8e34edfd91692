import { deepStrictEqual, strictEqual } from 'node:assert/strict';
import fc from 'fast-check';
import type { Account, BudgetStore, ModelCall, Reserver, Standing, TurnName, UsageStore } from '../engine/ports.ts';
import { aCall } from './usage-store.ts';

interface Stores {
  readonly budgets: BudgetStore;
  readonly usage: UsageStore;
}

/** Does random steps on the store and on arrays, and finds every account stand the same in both. */
export async function budgetModel(stores: Stores): Promise<void> {
  let runs = 0;
  const property = fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
    runs += 1;
    await run(stores, `run ${runs}`, steps);
  });
  await fc.assert(property, { numRuns: 40 });
}

const day = 24 * 3600 * 1000;
const start = Date.parse('2024-02-29');

/** Of which every sum is exact. */
const usd = fc.integer({ min: 0, max: 64 }).map((sixteenths) => sixteenths / 16);
const tenant = fc.constantFrom('red', 'blue');
const key = fc.constantFrom('key-1', 'key-2');
/** Each turn is of one conversation. */
const turn = fc.record({ tenant, turn: fc.constantFrom('c1', 'c2', 'd1', 'd2') });
const account = fc.record({
  tenant,
  key: fc.option(key),
  conversation: fc.option(fc.constantFrom('c', 'd')),
  since: fc.constantFrom(0, start, start + day, start + 2 * day),
});

type Turn = { readonly tenant: string; readonly turn: string };

const step = fc.oneof(
  fc.record({
    do: fc.constant('reserve' as const),
    turn,
    key,
    usd,
    limits: fc.array(fc.record({ account, usd }), { maxLength: 3 }),
  }),
  fc.record({
    do: fc.constant('record' as const),
    turn,
    key,
    id: fc.integer({ min: 0, max: 9 }),
    usd: fc.option(usd),
    at: fc.constantFrom(start - 1, start, start + day - 1, start + day, start + 3 * day),
  }),
  fc.record({ do: fc.constant('release' as const), turn }),
);

type Step = typeof step extends fc.Arbitrary<infer One> ? One : never;

/** What is kept, as simply as can be. */
class Model {
  calls: ModelCall[] = [];
  reservations: { reserver: Reserver; usd: number }[] = [];

  standing({ tenant: of, key: by, conversation, since }: Account, except: TurnName | null): Standing {
    const counts = (name: TurnName, payer: string) =>
      name.tenant === of &&
      (by === null || payer === by) &&
      (conversation === null || name.conversation === conversation);
    const spent = this.calls.filter((call) => counts(call.ref, call.key) && call.at >= since);
    const reserved = this.reservations.filter(
      ({ reserver }) => counts(reserver.turn, reserver.key) && !(except && same(reserver.turn, except)),
    );
    return {
      spentUsd: sum(spent.map(({ costUsd }) => costUsd ?? 0)),
      reservedUsd: sum(reserved.map((one) => one.usd)),
    };
  }

  reserved(name: TurnName): number | null {
    return this.reservations.find(({ reserver }) => same(reserver.turn, name))?.usd ?? null;
  }

  release(name: TurnName): void {
    this.reservations = this.reservations.filter(({ reserver }) => !same(reserver.turn, name));
  }

  reserve(reserver: Reserver, want: number, limits: readonly { account: Account; usd: number }[]): number | null {
    this.release(reserver.turn);
    const left = limits.map((limit) => {
      const { spentUsd, reservedUsd } = this.standing(limit.account, null);
      return limit.usd - spentUsd - reservedUsd;
    });
    if (left.some((one) => one <= 0)) return null;
    const got = Math.min(want, ...left);
    this.reservations.push({ reserver, usd: got });
    return got;
  }

  record(call: ModelCall): void {
    if (this.calls.some(({ id, ref }) => id === call.id && ref.tenant === call.ref.tenant)) return;
    this.calls.push(call);
    for (const one of this.reservations) {
      if (same(one.reserver.turn, call.ref)) one.usd = Math.max(0, one.usd - (call.costUsd ?? 0));
    }
  }
}

const same = (one: TurnName, other: TurnName) => one.tenant === other.tenant && one.turn === other.turn;
const sum = (amounts: readonly number[]) => amounts.reduce((total, one) => total + one, 0);

async function run({ budgets, usage }: Stores, name: string, steps: readonly Step[]): Promise<void> {
  const model = new Model();
  const within = <T extends { readonly tenant: string }>(one: T): T => ({ ...one, tenant: `${one.tenant} of ${name}` });
  const named = (of: Turn): TurnName => ({ ...within(of), conversation: of.turn.slice(0, 1) });
  for (const one of steps) {
    const at = named(one.turn);
    if (one.do === 'reserve') {
      const reserver = { turn: at, key: one.key, node: 'node-1' };
      const limits = one.limits.map((limit) => ({ ...limit, account: within(limit.account) }));
      strictEqual(await budgets.reserve(reserver, one.usd, limits), model.reserve(reserver, one.usd, limits));
    } else if (one.do === 'record') {
      const call = { ...aCall(`call ${one.id}`, { ...at, epoch: 1 }, one.at), key: one.key, costUsd: one.usd };
      await usage.record(call);
      model.record(call);
    } else {
      await budgets.release(at);
      model.release(at);
    }
    strictEqual(await budgets.reserved(at), model.reserved(at));
  }
  for (const of of accounts.map(within)) {
    for (const except of [null, named({ tenant: 'red', turn: 'c1' })]) {
      deepStrictEqual(await budgets.standing(of, except), model.standing(of, except));
    }
  }
}

const accounts: readonly Account[] = ['red', 'blue'].flatMap((of) =>
  [null, 'key-1'].flatMap((by) =>
    [null, 'c'].flatMap((conversation) =>
      [0, start, start + day].map((since) => ({ tenant: of, key: by, conversation, since })),
    ),
  ),
);
