import type { Limiter, RateLimits, RateVerdict } from '../engine/ports.ts';
import { activeWindows } from './windows.ts';

export interface DegradingLimiterOptions {
  /** Counts for all nodes; it may reject. */
  readonly shared: Limiter;
  /** Counts for this node; it never rejects. */
  readonly local: Limiter;
  /** How many nodes serve, this one included. */
  readonly nodes: () => number;
}

/** What one of several nodes may let through: together they let through the limit, and up to one request more for each. */
function shareOf(limits: RateLimits, nodes: number): RateLimits {
  const share = (limit: number) => Math.ceil(limit / Math.max(1, nodes));
  return { perMinute: share(limits.perMinute), perHour: share(limits.perHour), burst: share(limits.burst) };
}

/** Has every node let through its share, where nothing counts for all of them. Never rejects where `local` does not. */
export const shareLimiter = (local: Limiter, nodes: () => number): Limiter => ({
  take: (subject, limits) => local.take(subject, shareOf(limits, nodes())),
});

/**
 * Lets the shared limiter decide, and the one of this node when that cannot. Every request is judged, and none fails
 * because of it.
 *
 * While the shared one decides, its promise holds: all nodes together let through no more than the limit in any window.
 * While it cannot, each node lets through no more than its share of the limit, what it had let through before included.
 * In a window in which it changes, however often, all nodes together let through no more than the limit and their shares.
 * Only a shared limiter that forgot what it had counted allows it anew.
 */
export class DegradingLimiter implements Limiter {
  readonly #options: DegradingLimiterOptions;

  constructor(options: DegradingLimiterOptions) {
    this.#options = options;
  }

  /** Never rejects. */
  async take(subject: string, limits: RateLimits): Promise<RateVerdict> {
    const { shared, local, nodes } = this.#options;
    const share = shareOf(limits, nodes());
    if (activeWindows(limits).length === 0) return await local.take(subject, limits);
    let verdict: RateVerdict;
    try {
      verdict = await shared.take(subject, limits);
    } catch {
      return await local.take(subject, share);
    }
    // Counted here too, so that a request that was let through is known when the shared one fails.
    if (verdict.allowed) await local.take(subject, share);
    return verdict;
  }
}
