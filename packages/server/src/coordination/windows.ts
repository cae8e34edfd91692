import type { RateLimits, RateVerdict } from '../engine/ports.ts';

/** The limit of each window and its length in milliseconds, the shortest first. */
const windows = [
  { limit: 'burst', length: 10_000 },
  { limit: 'perMinute', length: 60_000 },
  { limit: 'perHour', length: 3_600_000 },
] as const satisfies readonly { limit: keyof RateLimits; length: number }[];

/** The windows that are not off, the shortest first. */
export const activeWindows = (limits: RateLimits) => windows.filter(({ limit }) => limits[limit] > 0);

/** What a limiter found for one subject. Times are milliseconds of one clock. */
export interface Finding {
  readonly now: number;
  /** When every window has a place: not after `now` when it was let through. */
  readonly opensAt: number;
  /** Of each active window, with the request in it if it was let through. */
  readonly windows: readonly {
    /** Places that are left; below 0 when the limit was lowered meanwhile. */
    readonly free: number;
    /** When the oldest request in it leaves it; `now` when there is none. */
    readonly freesAt: number;
  }[];
}

/** What a limiter says of what it found; `wall` is the time of day at that moment, in milliseconds since 1970. */
export function verdictOf(limits: RateLimits, { now, opensAt, windows: found }: Finding, wall: number): RateVerdict {
  const active = activeWindows(limits);
  const allowed = opensAt <= now;
  const fewest = Math.min(...found.map(({ free }) => free));
  const binding = found.filter(({ free }) => free === fewest).map(({ freesAt }) => freesAt);
  const freesAt = allowed ? Math.max(now, ...binding) : opensAt;
  const remaining = (limit: keyof RateLimits): number =>
    Math.max(0, found[active.findIndex((window) => window.limit === limit)]?.free ?? 0);
  return {
    allowed,
    limits,
    remainingMinute: remaining('perMinute'),
    remainingHour: remaining('perHour'),
    resetAt: Math.ceil((wall + freesAt - now) / 1000),
    retryAfter: Math.ceil((opensAt - now) / 1000),
  };
}
