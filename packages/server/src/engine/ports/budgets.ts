import type { TurnRef } from './store.ts';

/** Whose spending a limit bounds. */
export interface Account {
  readonly tenant: string;
  /** Null: all keys of the tenant. */
  readonly key: string | null;
  /** Null: all conversations. */
  readonly conversation: string | null;
  /** Spending from then on counts: the first moment of a day or month of UTC, or 0. */
  readonly since: number;
}

/** How an account stands. */
export interface Standing {
  readonly spentUsd: number;
  /** What running turns have reserved and not yet spent. */
  readonly reservedUsd: number;
}

/** An account with the most that may be spent from it, in USD. */
export interface Limit {
  readonly account: Account;
  readonly usd: number;
}

/** A turn by its names: it may not be accepted yet, and then it has no epoch. */
export type TurnName = Omit<TurnRef, 'epoch'>;

/** Whose turn reserves. */
export interface Reserver {
  readonly turn: TurnName;
  readonly key: string;
  readonly node: string;
}

/**
 * What turns reserve of budgets before they run. What is spent comes from the metered calls (`UsageStore.record`), each
 * of which lessens what its turn has reserved by its cost.
 */
export interface BudgetStore {
  /**
   * Reserves up to `wantUsd` for a turn, as much as is left of every limit, in one transaction with looking; gives how
   * much that is. Null, with nothing reserved, when a limit has nothing left. A turn that has reserved before has its
   * reservation replaced.
   */
  reserve(reserver: Reserver, wantUsd: number, limits: readonly Limit[]): Promise<number | null>;
  /** What the turn reserved and has not spent; null when it has no reservation. */
  reserved(turn: TurnName): Promise<number | null>;
  /** Ends the reservation of a turn, if it has one. */
  release(turn: TurnName): Promise<void>;
  /** How an account stands, without what the turn `except` has reserved. */
  standing(account: Account, except: TurnName | null): Promise<Standing>;
  /** Ends the reservations that nodes which are not in the list have left of turns that have an end or are not there. */
  releaseEnded(): Promise<void>;
}
