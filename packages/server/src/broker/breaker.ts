import type { Clock } from '../engine/clock.ts';
import type { UpstreamState } from '../engine/ports.ts';
import { Recent } from './recent.ts';

/** When an upstream that fails is left alone. */
export interface BreakerPolicy {
  /** Fewest calls within the window that say anything; 0: it is never left alone. */
  readonly calls: number;
  /** Part of the calls that must have failed, from 0 to 1. */
  readonly share: number;
  readonly windowMs: number;
  /** How long nothing is sent before one call tries it. */
  readonly pauseMs: number;
}

/** A call that was let through. Each end may be told once; what began before a change of state changes nothing. */
export interface Trial {
  /** An answer has begun: enough for the call that tries an upstream after a pause. */
  begun(): void;
  good(): void;
  bad(): void;
  /** Nobody knows how it would have ended. */
  unknown(): void;
}

/**
 * The breaker of one upstream. Closed, all calls pass. Open, none does until the pause is over. Half open, one passes:
 * it closes or opens the breaker again.
 */
export class Breaker {
  readonly #clock: Clock;
  readonly #policy: BreakerPolicy;
  readonly #all: Recent;
  readonly #failed: Recent;
  #openedAt: number | null = null;
  #tried = false;
  /** Counts changes of state. */
  #change = 0;

  constructor(clock: Clock, policy: BreakerPolicy) {
    this.#clock = clock;
    this.#policy = policy;
    this.#all = new Recent(clock, policy.windowMs);
    this.#failed = new Recent(clock, policy.windowMs);
  }

  get state(): UpstreamState['state'] {
    if (this.#openedAt === null) return 'closed';
    return this.#pauseLeft() > 0 ? 'open' : 'half_open';
  }

  /** Milliseconds until a call may pass; 0: now. While another call tries the upstream, a guess. */
  waitMs(): number {
    if (this.#openedAt === null) return 0;
    return this.#pauseLeft() || (this.#tried ? this.#policy.pauseMs : 0);
  }

  /** Lets a call through; null when it may not pass now. */
  begin(): Trial | null {
    if (this.waitMs() > 0) return null;
    this.#tried = this.#openedAt !== null;
    let from = this.#change;
    const once = (work: () => void) => () => {
      if (from === this.#change) work();
      from = -1;
    };
    return {
      begun: () => {
        if (from === this.#change && this.#openedAt !== null) from = this.#close();
      },
      good: once(() => this.#good()),
      bad: once(() => this.#bad()),
      unknown: once(() => (this.#tried = false)),
    };
  }

  #pauseLeft(): number {
    return Math.max(0, (this.#openedAt ?? 0) + this.#policy.pauseMs - this.#clock.monotonic());
  }

  #good(): void {
    if (this.#openedAt !== null) this.#close();
    this.#all.add();
  }

  #bad(): void {
    this.#all.add();
    this.#failed.add();
    const { calls, share } = this.#policy;
    const all = this.#all.count;
    const enough = calls > 0 && all >= calls && this.#failed.count >= share * all;
    if (this.#openedAt !== null || enough) this.#open();
  }

  #open(): void {
    this.#openedAt = this.#clock.monotonic();
    this.#tried = false;
    this.#change += 1;
  }

  /** Gives the number of the change. */
  #close(): number {
    this.#openedAt = null;
    this.#tried = false;
    this.#all.clear();
    this.#failed.clear();
    return (this.#change += 1);
  }
}
