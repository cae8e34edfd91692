import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keptBudget, mayCall, reserve, withReservation, type BudgetParts } from './budgets.ts';
import type { Account, Budgets, BudgetStore, KeyRecord, Limit, Reserver, TurnName } from './ports.ts';
import type { SallyportError } from './errors.ts';

const none: Budgets = { run: null, conversation: null, day: null, month: null };
const nameOf = (turn: TurnName): string => JSON.stringify([turn.tenant, turn.conversation, turn.turn]);

interface Spending extends Omit<Account, 'since'> {
  readonly at: number;
  readonly usd: number;
}

/** Budgets in memory, beside keys and tenants whose budgets a test sets. */
class World implements BudgetStore {
  readonly ofKeys = new Map<string, Budgets>();
  readonly ofTenants = new Map<string, Budgets>();
  readonly spent: Spending[] = [];
  readonly reservations = new Map<string, Reserver & { usd: number }>();
  now = Date.UTC(2026, 10, 21, 12);
  readonly parts: BudgetParts = {
    keys: {
      get: async (tenant, name) => {
        const budgets = this.ofKeys.get(name);
        return budgets ? ({ tenant, name, narrowing: { budgets } } as unknown as KeyRecord) : null;
      },
    },
    tenants: { get: async (id) => ({ id, createdAt: 0, budgets: this.ofTenants.get(id) ?? null }) },
    budgets: this,
    clock: { now: () => this.now, monotonic: () => 0 },
    isPriced: (model) => model !== 'unpriced',
  };

  spend({ turn, key }: Reserver, usd: number, at = this.now): void {
    this.spent.push({ tenant: turn.tenant, key, conversation: turn.conversation, at, usd });
  }

  async reserve(reserver: Reserver, wantUsd: number, limits: readonly Limit[]): Promise<number | null> {
    let usd = wantUsd;
    for (const { account, usd: most } of limits) {
      const { spentUsd, reservedUsd } = await this.standing(account, reserver.turn);
      usd = Math.min(usd, most - spentUsd - reservedUsd);
      if (most - spentUsd - reservedUsd <= 0) return null;
    }
    this.reservations.set(nameOf(reserver.turn), { ...reserver, usd });
    return usd;
  }

  reserved = async (turn: TurnName) => this.reservations.get(nameOf(turn))?.usd ?? null;

  release = async (turn: TurnName) => void this.reservations.delete(nameOf(turn));

  async standing({ tenant, key, conversation, since }: Account, except: TurnName | null) {
    const counts = (of: Omit<Account, 'since'>) =>
      of.tenant === tenant && (key ?? of.key) === of.key && (conversation ?? of.conversation) === of.conversation;
    const sum = (all: readonly { usd: number }[]) => all.reduce((total, { usd }) => total + usd, 0);
    const others = [...this.reservations.values()].filter(({ turn, key: owner }) => {
      return counts({ ...turn, key: owner }) && turn.turn !== except?.turn;
    });
    return { spentUsd: sum(this.spent.filter((one) => counts(one) && one.at >= since)), reservedUsd: sum(others) };
  }

  releaseEnded = () => assert.fail('not asked');
}

const turnOf = (turn: string, key = 'k', conversation = 'c', tenant = 't'): Reserver => ({
  turn: { tenant, conversation, turn },
  key,
  node: 'node-1',
});
const one = turnOf('one');
const exhausted = { code: 'budget_exhausted' };

test('without any budget the budget store is not asked', async () => {
  const world = new World();
  const untouched: BudgetParts = { ...world.parts, budgets: {} as BudgetStore };
  const free = { budgetUsd: null, reserved: false };
  assert.deepEqual(await reserve(untouched, one, 'unpriced', null), free);
  assert.equal(await mayCall(untouched, one, 1_000_000), 'yes');
  const conversation = { profile: { model: 'm' }, limits: { budgetUsd: null } } as Parameters<
    typeof withReservation
  >[2];
  assert.equal(await withReservation(untouched, one, conversation, async () => null), null);
});

test('a turn may spend the least of its own limit and those of its key and tenant', async () => {
  const world = new World();
  world.ofKeys.set('k', { ...none, run: 3 });
  world.ofTenants.set('t', { ...none, run: 2 });
  const granted = async (ownUsd: number | null) => (await reserve(world.parts, one, 'm', ownUsd)).budgetUsd;
  assert.deepEqual([await granted(null), await granted(1), await granted(5)], [2, 1, 2]);
  world.ofTenants.delete('t');
  assert.deepEqual([await granted(null), await granted(5)], [3, 3]);
  world.ofKeys.set('k', { ...none, run: 0 });
  await assert.rejects(granted(5), exhausted);
});

test('a turn gets what is left of every budget, and none when one has nothing left', async () => {
  const world = new World();
  world.ofKeys.set('k', { ...none, run: 10, day: 8, month: 20 });
  world.ofTenants.set('t', { ...none, day: 12, conversation: 7 });
  const granted = async (reserver: Reserver) => (await reserve(world.parts, reserver, 'm', null)).budgetUsd;
  assert.equal(await granted(turnOf('a', 'k', 'c1')), 7);
  assert.equal(await granted(turnOf('b', 'k', 'c2')), 1);
  await assert.rejects(granted(turnOf('c', 'k', 'c3')), exhausted);
  assert.equal((await reserve(world.parts, turnOf('d', 'other', 'c4'), 'm', 9)).budgetUsd, 4);
  await assert.rejects(reserve(world.parts, turnOf('e', 'other', 'c5'), 'm', null), exhausted);
  assert.deepEqual(await reserve(world.parts, turnOf('f', 'k', 'c', 'elsewhere'), 'm', 1), {
    budgetUsd: 1,
    reserved: true,
  });
});

test('a turn without a limit of its own reserves nothing, and goes on as long as others leave something', async () => {
  const world = new World();
  world.ofTenants.set('t', { ...none, day: 10 });
  const open = turnOf('open', 'k', 'c1');
  assert.deepEqual(await reserve(world.parts, open, 'm', null), { budgetUsd: null, reserved: true });
  assert.equal(await reserve(world.parts, turnOf('capped', 'k2', 'c2'), 'm', 6).then((it) => it.budgetUsd), 6);
  world.spend(open, 3.9);
  assert.equal(await mayCall(world.parts, open, 3.9), 'alone');
  world.spend(open, 0.1);
  assert.equal(await mayCall(world.parts, open, 4), 'no');
  assert.equal(await mayCall(world.parts, turnOf('capped', 'k2', 'c2'), 0), 'alone', 'its own reservation is its own');
  await world.release({ tenant: 't', conversation: 'c2', turn: 'capped' });
  assert.equal(await mayCall(world.parts, open, 4), 'alone');
});

const borders: readonly [what: keyof Budgets, last: string, first: string][] = [
  ['day', '2026-11-21T23:59:59.999Z', '2026-11-22T00:00:00.000Z'],
  ['day', '2028-02-28T23:59:59.999Z', '2028-02-29T00:00:00.000Z'],
  ['month', '2026-11-30T23:59:59.999Z', '2026-12-01T00:00:00.000Z'],
  ['month', '2026-12-31T23:59:59.999Z', '2027-01-01T00:00:00.000Z'],
  ['month', '2028-02-29T23:59:59.999Z', '2028-03-01T00:00:00.000Z'],
  ['day', '2026-03-29T23:59:59.999Z', '2026-03-30T00:00:00.000Z'],
];
for (const [what, last, first] of borders) {
  test(`what was spent up to the end of a ${what} of UTC counts to ${last} and no longer`, async () => {
    const world = new World();
    world.ofKeys.set('k', { ...none, [what]: 1 });
    world.now = Date.parse(last);
    world.spend(
      one,
      1,
      Date.parse(`${last.slice(0, what === 'day' ? 10 : 7)}${what === 'day' ? '' : '-01'}T00:00:00Z`),
    );
    assert.equal(await mayCall(world.parts, one, 0), 'no');
    await assert.rejects(reserve(world.parts, turnOf('two', 'k', 'c2'), 'm', null), exhausted);
    world.now = Date.parse(first);
    assert.equal(await mayCall(world.parts, one, 0), 'alone');
    assert.equal((await reserve(world.parts, turnOf('two', 'k', 'c2'), 'm', 5)).budgetUsd, 1);
    world.spend(one, 1);
    assert.equal(await mayCall(world.parts, one, 0), 'no');
  });
}

test('each budget counts what is spent from it and nothing else', async () => {
  const world = new World();
  const old = Date.UTC(2020, 0, 1);
  world.spend(turnOf('x', 'k', 'c1'), 1, old);
  world.spend(turnOf('x', 'k2', 'c2'), 1);
  world.spend(turnOf('x', 'k', 'c1', 'elsewhere'), 1);
  const verdict = async (budgets: Partial<Budgets>, of: 'key' | 'tenant') => {
    world.ofKeys.clear();
    world.ofTenants.clear();
    if (of === 'key') world.ofKeys.set('k', { ...none, ...budgets });
    else world.ofTenants.set('t', { ...none, ...budgets });
    return await mayCall(world.parts, turnOf('y', 'k', 'c1'), 0);
  };
  assert.equal(await verdict({ conversation: 1 }, 'key'), 'no', 'all its turns, whenever they were');
  assert.equal(await verdict({ conversation: 1.5 }, 'tenant'), 'alone');
  assert.equal(await verdict({ day: 0.5, month: 0.5 }, 'key'), 'alone', 'another key has spent');
  assert.equal(await verdict({ day: 1 }, 'tenant'), 'no', 'another key of the tenant has spent');
  assert.equal(await verdict({ month: 1 }, 'tenant'), 'no');
  assert.equal(await verdict({ month: 1.5 }, 'tenant'), 'alone', 'another tenant has spent');
});

test('a budget that is changed counts from the next look on', async () => {
  const world = new World();
  world.spend(one, 2);
  assert.equal(await mayCall(world.parts, one, 2), 'yes');
  for (const what of ['run', 'conversation', 'day', 'month'] as const) {
    world.ofKeys.set('k', { ...none, [what]: 2 });
    assert.equal(await mayCall(world.parts, one, 2), 'no', what);
    world.ofKeys.set('k', { ...none, [what]: 2.5 });
    assert.equal(await mayCall(world.parts, one, 2), 'alone', what);
  }
  world.ofKeys.clear();
  assert.equal(await mayCall(world.parts, one, 2), 'yes');
});

test('what is no number allows nothing', async () => {
  const world = new World();
  world.ofKeys.set('k', { ...none, day: 5 });
  world.spend(one, Number.NaN);
  assert.equal(await mayCall(world.parts, one, 0), 'no');
  world.ofKeys.set('k', { ...none, run: 5 });
  assert.equal(await mayCall(world.parts, one, Number.NaN), 'no');
});

test('a model without a known price cannot be used under any budget', async () => {
  for (const what of ['run', 'conversation', 'day', 'month'] as const) {
    const world = new World();
    world.ofTenants.set('t', { ...none, [what]: 5 });
    await assert.rejects(reserve(world.parts, one, 'unpriced', null), (error: SallyportError) => {
      assert.equal(error.code, 'model_not_allowed');
      assert.match(error.detail, /price/u);
      return true;
    });
    assert.equal(world.reservations.size, 0);
  }
});

test('when budgets cannot be read nothing is reserved and no call is allowed', async () => {
  const failing = () => Promise.reject(new Error('the store failed'));
  const world = new World();
  world.ofKeys.set('k', { ...none, day: 5 });
  const broken: Partial<BudgetParts>[] = [
    { keys: { get: failing } },
    { tenants: { get: failing } },
    { budgets: { reserve: failing, standing: failing } as unknown as BudgetStore },
  ];
  for (const part of broken) {
    await assert.rejects(reserve({ ...world.parts, ...part }, one, 'm', 1), /the store failed/u);
    await assert.rejects(mayCall({ ...world.parts, ...part }, one, 0), /the store failed/u);
  }
  assert.equal(world.reservations.size, 0);
});

test('what is reserved stays for a turn that is accepted, and is released when it is not', async () => {
  const world = new World();
  const conversation = { profile: { model: 'm' }, limits: { budgetUsd: 2 } } as Parameters<typeof withReservation>[2];
  const accepting = <T>(accept: () => Promise<T>) => withReservation(world.parts, one, conversation, accept);
  assert.equal(await accepting(async () => null), null);
  assert.equal(world.reservations.size, 0);
  await assert.rejects(
    accepting(() => Promise.reject(new Error('taken'))),
    /taken/u,
  );
  assert.equal(world.reservations.size, 0);
  assert.equal(await accepting(async () => world.reservations.size), 1);
  assert.equal(await world.reserved(one.turn), 2);
});

test('a turn that goes on keeps what is left of its reservation beside what it has spent', async () => {
  const world = new World();
  const kept = (ownUsd: number | null, spentUsd: number) => keptBudget(world.parts, one, ownUsd, spentUsd);
  assert.deepEqual(await kept(null, 3), { budgetUsd: null, reserved: false });
  assert.deepEqual(await kept(5, 3), { budgetUsd: 5, reserved: false });
  world.reservations.set(nameOf(one.turn), { ...one, usd: 1.5 });
  assert.deepEqual(await kept(5, 3), { budgetUsd: 4.5, reserved: true });
  assert.deepEqual(await kept(null, 3), { budgetUsd: null, reserved: true }, 'it had no limit of its own');
  world.ofKeys.set('k', { ...none, run: 9 });
  assert.deepEqual(await kept(null, 3), { budgetUsd: 4.5, reserved: true });
});
