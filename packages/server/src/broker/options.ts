import type { Clock } from '../engine/clock.ts';
import type { Broker, Log, ModelCall } from '../engine/ports.ts';
import type { Timeouts } from './attempt.ts';
import type { BreakerPolicy } from './breaker.ts';
import type { Prices } from './prices.ts';
import type { RetryPolicy } from './retry.ts';
import type { UpstreamSettings } from './upstream.ts';

export interface BrokerOptions {
  /** Where the socket is made: an absolute path of less than 100 bytes in a directory that exists. */
  readonly socketPath: string;
  /** In the order in which calls go to them. At least one; no two of one name. */
  readonly upstreams: readonly UpstreamSettings[];
  readonly prices: Prices;
  readonly clock: Clock;
  readonly log: Log;
  /** Stores the usage of one call. When it rejects, the turn gets no further call. */
  readonly record: (call: ModelCall) => Promise<void>;
  /** Default: 120 s for the first byte, 60 s of silence. */
  readonly timeouts?: Partial<Timeouts>;
  /**
   * Default: 2 repeats, 0.5 s doubled up to 8 s, at most 10 s when the upstream asks to wait; in 10 s a fifth of the
   * calls, or 10, may be repeated. A call moves on to another key or upstream 4 times at most.
   */
  readonly retry?: Partial<RetryPolicy>;
  /** Default: open for 5 s after half of at least 20 calls within 30 s have failed. */
  readonly breaker?: Partial<BreakerPolicy>;
}

/** A broker whose upstreams can be changed while it runs. */
export interface RunningBroker extends Broker {
  /**
   * Takes over other upstreams and keys for the calls to come; those under way end with the key they began with. Throws an
   * error of one line and changes nothing when the settings cannot be used.
   */
  setUpstreams(upstreams: readonly UpstreamSettings[]): void;
}

export const defaultTimeouts: Timeouts = { firstByteMs: 120_000, silenceMs: 60_000 };
export const defaultRetry: RetryPolicy = {
  attempts: 2,
  moves: 4,
  baseDelayMs: 500,
  maxDelayMs: 8000,
  maxRetryAfterMs: 10_000,
  budgetShare: 0.2,
  budgetFloor: 10,
  windowMs: 10_000,
};
export const defaultBreaker: BreakerPolicy = { calls: 20, share: 0.5, windowMs: 30_000, pauseMs: 5000 };
