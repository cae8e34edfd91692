import type { Clock } from '../engine/clock.ts';
import { Recent } from './recent.ts';

/** How failed model calls are tried again, before anything of an answer was passed on. */
export interface RetryPolicy {
  /** Most repeats of one call where it was tried before. */
  readonly attempts: number;
  /** Most times that one call moves on to another key or upstream. */
  readonly moves: number;
  /** Milliseconds before the first repeat; doubled for each further one. */
  readonly baseDelayMs: number;
  readonly maxDelayMs: number;
  /** Longest wait the upstream may ask for. When it asks for more, the failure is final at once. */
  readonly maxRetryAfterMs: number;
  /** Most repeats of all calls together, as a part of the calls of the last `windowMs`. */
  readonly budgetShare: number;
  /** Repeats that are allowed within `windowMs` however few calls there are. */
  readonly budgetFloor: number;
  readonly windowMs: number;
}

const passingStatuses = new Set([429, 500, 502, 503, 504, 529]);

/** True for statuses with which the same call may succeed a moment later. */
export function isPassing(status: number): boolean {
  return passingStatuses.has(status);
}

/**
 * Milliseconds to wait before repeat number `repeat` (from 1), between half and all of the exponential delay and never
 * less than the upstream asked for; null when it must not be repeated. `fraction` is a random number from 0 to 1.
 */
export function retryDelay(
  policy: RetryPolicy,
  repeat: number,
  retryAfterMs: number | undefined,
  fraction: number,
): number | null {
  if (repeat > policy.attempts) return null;
  if (retryAfterMs !== undefined && retryAfterMs > policy.maxRetryAfterMs) return null;
  const delay = Math.min(policy.maxDelayMs, policy.baseDelayMs * 2 ** (repeat - 1));
  return Math.max(delay * (0.5 + fraction / 2), retryAfterMs ?? 0);
}

/** Milliseconds that a `retry-after` header asks for: seconds or a date. Undefined when there is none to be understood. */
export function parseRetryAfter(header: string | undefined, now: number): number | undefined {
  if (header === undefined) return undefined;
  if (/^\d+(\.\d+)?$/.test(header.trim())) return Number(header) * 1000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}

/**
 * How often calls may be repeated in all, so that repeats never add much to what an upstream in trouble gets. Moving a
 * call on to another key or upstream is no repeat.
 */
export class RetryBudget {
  readonly #policy: RetryPolicy;
  readonly #calls: Recent;
  readonly #repeats: Recent;

  constructor(clock: Clock, policy: RetryPolicy) {
    this.#policy = policy;
    this.#calls = new Recent(clock, policy.windowMs);
    this.#repeats = new Recent(clock, policy.windowMs);
  }

  /** Counts a call that begins. */
  began(): void {
    this.#calls.add();
  }

  /** Asks for one repeat and counts it when it is allowed. */
  take(): boolean {
    const { budgetShare, budgetFloor } = this.#policy;
    const allowed = this.#repeats.count < Math.max(budgetFloor, budgetShare * this.#calls.count);
    if (allowed) this.#repeats.add();
    return allowed;
  }
}
