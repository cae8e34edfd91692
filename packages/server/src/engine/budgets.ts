import { startsOf, type Clock } from './clock.ts';
import { SallyportError } from './errors.ts';
import type {
  Budgets,
  BudgetStore,
  CallVerdict,
  ConversationRecord,
  KeyStore,
  Limit,
  Reserver,
  TenantStore,
} from './ports.ts';

/** What budgets are read and kept with. */
export interface BudgetParts {
  readonly keys: Pick<KeyStore, 'get'>;
  readonly tenants: Pick<TenantStore, 'get'>;
  readonly budgets: BudgetStore;
  readonly clock: Clock;
  readonly isPriced: (model: string) => boolean;
}

/** What a turn may spend. */
export interface TurnBudget {
  /** Most in USD; null: as much as the budgets that others spend from too leave at each call. */
  readonly budgetUsd: number | null;
  /** True when the store has a reservation, which must be released. */
  readonly reserved: boolean;
}

type Payer = Omit<Reserver, 'node'>;

/** Budgets as they bind a turn now. */
interface Bounds {
  /** Most for the turn itself; null: no bound. */
  readonly runUsd: number | null;
  /** What it shares with other turns. */
  readonly limits: readonly Limit[];
}

const unbounded: Budgets = { run: null, conversation: null, day: null, month: null };
const exhausted = () => new SallyportError('budget_exhausted');
const unpriced = () =>
  new SallyportError('model_not_allowed', {
    detail: 'This model cannot be used under a budget: its price is not known here. Choose another one.',
  });

const least = (...bounds: readonly (number | null)[]): number | null => {
  const set = bounds.filter((bound) => bound !== null);
  return set.length === 0 ? null : Math.min(...set);
};

/** Reads the budgets of key and tenant anew, so that a change counts from the next look on. */
async function boundsOf({ keys, tenants, clock }: BudgetParts, { turn, key }: Payer): Promise<Bounds> {
  const { tenant, conversation } = turn;
  const [owner, whole] = await Promise.all([keys.get(tenant, key), tenants.get(tenant)]);
  const ofKey = owner?.narrowing?.budgets ?? unbounded;
  const ofTenant = whole?.budgets ?? unbounded;
  const { day, month } = startsOf(clock.now());
  const limit = (usd: number | null, names: { key?: string; conversation?: string }, since: number): Limit[] =>
    usd === null ? [] : [{ account: { tenant, key: null, conversation: null, ...names, since }, usd }];
  const limits = [
    ...limit(ofKey.day, { key }, day),
    ...limit(ofKey.month, { key }, month),
    ...limit(ofTenant.day, {}, day),
    ...limit(ofTenant.month, {}, month),
    ...limit(least(ofKey.conversation, ofTenant.conversation), { conversation }, 0),
  ];
  return { runUsd: least(ofKey.run, ofTenant.run), limits };
}

/**
 * Reserves what a turn may spend before it is accepted: at most `ownUsd`, its own limit. The key that owns the
 * conversation pays, whoever continues it. Rejects, with nothing reserved, with `budget_exhausted` when a budget has
 * nothing left, and with `model_not_allowed` when there is a budget and the price of the model is not known. Without any
 * budget or limit the budget store is not asked.
 */
export async function reserve(
  parts: BudgetParts,
  reserver: Reserver,
  model: string,
  ownUsd: number | null,
): Promise<TurnBudget> {
  const { runUsd, limits } = await boundsOf(parts, reserver);
  const mostUsd = least(ownUsd, runUsd);
  if (mostUsd === null && limits.length === 0) return { budgetUsd: null, reserved: false };
  if (!parts.isPriced(model)) throw unpriced();
  if (mostUsd !== null && mostUsd <= 0) throw exhausted();
  const granted = await parts.budgets.reserve(reserver, mostUsd ?? 0, limits);
  if (granted === null) throw exhausted();
  return { budgetUsd: mostUsd === null ? null : granted, reserved: true };
}

/** Has a turn accepted with what could be reserved for it. It is released when the turn is not: null, or a rejection. */
export async function withReservation<T>(
  parts: BudgetParts,
  reserver: Reserver,
  { profile, limits }: Pick<ConversationRecord, 'profile' | 'limits'>,
  accept: (budget: TurnBudget) => Promise<T>,
): Promise<T> {
  const budget = await reserve(parts, reserver, profile.model, limits.budgetUsd);
  let accepted: T | null = null;
  try {
    accepted = await accept(budget);
    return accepted;
  } finally {
    if (accepted === null && budget.reserved) await parts.budgets.release(reserver.turn);
  }
}

/** The budget of a turn that goes on in another process: it keeps its reservation beside the `spentUsd` it has spent. */
export async function keptBudget(
  parts: BudgetParts,
  reserver: Payer,
  ownUsd: number | null,
  spentUsd: number,
): Promise<TurnBudget> {
  const rest = await parts.budgets.reserved(reserver.turn);
  if (rest === null) return { budgetUsd: ownUsd, reserved: false };
  const { runUsd } = await boundsOf(parts, reserver);
  return { budgetUsd: least(ownUsd, runUsd) === null ? null : spentUsd + rest, reserved: true };
}

/**
 * Whether a turn that has spent `spentUsd` may call the model. What other turns have reserved is not left for it. Rejects
 * when that cannot be found out.
 */
export async function mayCall(parts: BudgetParts, reserver: Payer, spentUsd: number): Promise<CallVerdict> {
  const { runUsd, limits } = await boundsOf(parts, reserver);
  if (runUsd !== null && !(spentUsd < runUsd)) return 'no';
  if (runUsd === null && limits.length === 0) return 'yes';
  const { turn } = reserver;
  const left = await Promise.all(
    limits.map(async ({ account, usd }) => {
      const standing = await parts.budgets.standing(account, turn);
      return standing.spentUsd + standing.reservedUsd < usd;
    }),
  );
  return left.every(Boolean) ? 'alone' : 'no';
}
