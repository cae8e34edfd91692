import type { Clock } from './clock.ts';

/** Counts the time of a turn that counts toward its timeout, and tells when it is used up. */
export class Deadline {
  readonly #clock: Clock;
  readonly #limitMs: number;
  readonly #expired: () => void;
  #usedMs: number;
  /** When counting began; null while it does not count. */
  #since: number | null = null;
  #timer: NodeJS.Timeout | null = null;

  /** `usedMs` were used before. Does not count until `resume`. */
  constructor(clock: Clock, limitMs: number, usedMs: number, expired: () => void) {
    this.#clock = clock;
    this.#limitMs = limitMs;
    this.#usedMs = usedMs;
    this.#expired = expired;
  }

  get usedMs(): number {
    return Math.round(this.#usedMs + (this.#since === null ? 0 : this.#clock.monotonic() - this.#since));
  }

  get leftMs(): number {
    return Math.max(0, this.#limitMs - this.usedMs);
  }

  resume(): void {
    if (this.#since !== null) return;
    this.#since = this.#clock.monotonic();
    this.#timer = setTimeout(this.#expired, Math.max(0, this.#limitMs - this.#usedMs));
  }

  pause(): void {
    this.#usedMs = this.usedMs;
    this.#since = null;
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
  }
}
