/** How failed model calls are repeated, before anything of an answer was passed on. */
export interface RetryPolicy {
  /** Most repeats of one call. */
  readonly attempts: number;
  /** Milliseconds before the first repeat; doubled for each further one. */
  readonly baseDelayMs: number;
  readonly maxDelayMs: number;
  /** Longest wait the upstream may ask for. When it asks for more, the failure is final at once. */
  readonly maxRetryAfterMs: number;
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
