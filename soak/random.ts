import { createHash } from 'node:crypto';

/** Draws that are the same for the same seed and name. */
export class Dice {
  readonly #name: string;
  #drawn = 0;

  constructor(seed: number, name: string) {
    this.#name = `${seed} ${name}`;
  }

  /** From 0 to below 1. */
  number(): number {
    this.#drawn += 1;
    return createHash('sha256').update(`${this.#name} ${this.#drawn}`).digest().readUInt32BE() / 2 ** 32;
  }

  /** True in such a share of all draws. */
  chance(share: number): boolean {
    return this.number() < share;
  }

  /** One of them. Throws when there is none. */
  pick<T>(of: readonly T[]): T {
    if (of.length === 0) throw new Error('there is nothing to pick from');
    return of[Math.floor(this.number() * of.length)] as T;
  }

  /** A whole number, both ends included. */
  between(low: number, high: number): number {
    return low + Math.floor(this.number() * (high - low + 1));
  }

  /** The time to the next of events that come at random so often in a second, in milliseconds. */
  gapMs(perSecond: number): number {
    return (-Math.log(1 - this.number()) / perSecond) * 1000;
  }
}
