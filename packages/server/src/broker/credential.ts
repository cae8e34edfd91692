import type { ErrorCode } from '@sallyport/protocol';
import type { Clock } from '../engine/clock.ts';
import type { UpstreamState } from '../engine/ports.ts';

/** Milliseconds for which a key that was refused is put aside. */
const refusedMs = 60_000;
/** Milliseconds for which a key that was limited is put aside when the upstream does not say for how long. */
const limitedMs = 5000;
/** Longest time that an upstream can have a key put aside for. */
const longestMs = 3_600_000;

/** One key of an upstream, and whether it is put aside. Aside it is taken last, but it is taken when there is no other. */
export class Credential {
  /** Its place in the list, never a part of the secret. */
  name: string;
  /** Null: no key is sent. */
  readonly secret: string | null;
  readonly #clock: Clock;
  #code: ErrorCode | null = null;
  #asideAt = 0;
  #until = 0;
  /** When the upstream allows the next call, where it said so. */
  #waitUntil = 0;

  constructor(name: string, secret: string | null, clock: Clock) {
    this.name = name;
    this.secret = secret;
    this.#clock = clock;
  }

  get aside(): boolean {
    return this.#until > this.#clock.monotonic();
  }

  /** Milliseconds that the upstream still asks to wait. */
  waitMs(): number {
    return Math.max(0, this.#waitUntil - this.#clock.monotonic());
  }

  /** The upstream did not take the key. */
  refused(code: ErrorCode): void {
    this.#putAside(code, refusedMs);
  }

  /** The upstream asks to wait; undefined when it does not say how long. */
  limited(code: ErrorCode, afterMs: number | undefined): void {
    this.#putAside(code, Math.min(longestMs, afterMs ?? limitedMs));
    this.#waitUntil = this.#clock.monotonic() + (afterMs ?? 0);
  }

  /** The upstream took the key for a call that began at this time of the clock. One from before says nothing. */
  good(beganAt: number): void {
    if (beganAt < this.#asideAt) return;
    this.#until = 0;
    this.#waitUntil = 0;
  }

  /** Negative when this one is to be taken before the other, both put aside: the sooner allowed, refused ones last. */
  compare(other: Credential): number {
    const isRefused = (one: Credential) => Number(one.aside && one.#code === 'upstream_refused_credentials');
    return isRefused(this) - isRefused(other) || this.#left() - other.#left();
  }

  state(): UpstreamState['credentials'][number] {
    const { name, aside } = this;
    if (!aside) return { name, state: 'ready', code: null, until: null };
    return { name, state: 'aside', code: this.#code, until: Math.round(this.#clock.now() + this.#left()) };
  }

  #left(): number {
    return Math.max(0, this.#until - this.#clock.monotonic());
  }

  #putAside(code: ErrorCode, milliseconds: number): void {
    this.#code = code;
    this.#asideAt = this.#clock.monotonic();
    this.#until = this.#asideAt + milliseconds;
  }
}
