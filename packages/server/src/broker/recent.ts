import type { Clock } from '../engine/clock.ts';

const slices = 10;

/** Counts what happened in the last `milliseconds`, to a tenth of them. */
export class Recent {
  readonly #clock: Clock;
  readonly #sliceMs: number;
  readonly #counts: number[] = Array.from({ length: slices }, () => 0);
  #newest: number;

  constructor(clock: Clock, milliseconds: number) {
    this.#clock = clock;
    this.#sliceMs = milliseconds / slices;
    this.#newest = this.#slice();
  }

  get count(): number {
    this.#forget();
    return this.#counts.reduce((sum, one) => sum + one, 0);
  }

  add(): void {
    this.#forget();
    const at = this.#newest % slices;
    this.#counts[at] = (this.#counts[at] ?? 0) + 1;
  }

  clear(): void {
    this.#counts.fill(0);
  }

  #slice(): number {
    return Math.floor(this.#clock.monotonic() / this.#sliceMs);
  }

  #forget(): void {
    const now = this.#slice();
    for (let slice = Math.max(this.#newest + 1, now - slices + 1); slice <= now; slice++) {
      this.#counts[slice % slices] = 0;
    }
    this.#newest = now;
  }
}
