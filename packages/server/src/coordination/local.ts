import type { Clock } from '../engine/clock.ts';
import type { Limiter, RateLimits, RateVerdict } from '../engine/ports.ts';
import { activeWindows, verdictOf } from './windows.ts';

export interface LocalLimiterOptions {
  readonly clock: Clock;
  /** Most subjects that are remembered. Default: 100,000. */
  readonly maxSubjects?: number;
  /** Most requests that are remembered, of all subjects together. Default: 4,000,000, which are 32 MB. */
  readonly maxTimes?: number;
}

/** The place of the first time that comes after a moment, in times that only grow. */
function firstAfter(times: readonly number[], moment: number): number {
  let [from, to] = [0, times.length];
  while (from < to) {
    const middle = (from + to) >>> 1;
    if ((times[middle] ?? 0) > moment) to = middle;
    else from = middle + 1;
  }
  return from;
}

/** A window as it is for one subject now; `opensAt`: when it has a place, in the past when there is one. */
function windowOf(times: readonly number[], limit: number, length: number, now: number) {
  const oldest = firstAfter(times, now - length);
  const leaves = (index: number): number => (times[index] ?? now - length) + length;
  return { free: limit - (times.length - oldest), opensAt: leaves(times.length - limit), freesAt: leaves(oldest) };
}

/**
 * Counts in the memory of this process: exactly, by the time of every request that was let through. Waits come out right
 * as no time has a fraction of a millisecond.
 *
 * Memory is bounded. Subjects are in two generations; whoever asks, let through or not, is in the younger one. When that
 * holds half of what may be remembered it takes the place of the older one, which is forgotten. So who keeps asking is
 * never forgotten: to begin anew early a subject must be silent until `maxSubjects / 2` others have asked, or
 * `maxTimes / 2` of their requests are remembered.
 */
export class LocalLimiter implements Limiter {
  readonly #clock: Clock;
  readonly #maxSubjects: number;
  readonly #maxTimes: number;
  #younger = new Map<string, number[]>();
  #older = new Map<string, number[]>();
  /** How many times the younger generation holds. */
  #youngTimes = 0;

  constructor({ clock, maxSubjects = 100_000, maxTimes = 4_000_000 }: LocalLimiterOptions) {
    this.#clock = clock;
    this.#maxSubjects = maxSubjects;
    this.#maxTimes = maxTimes;
  }

  /** How many subjects are remembered. */
  get subjects(): number {
    return this.#younger.size + this.#older.size;
  }

  /** How many requests are remembered. */
  get times(): number {
    return [...this.#younger.values(), ...this.#older.values()].reduce((sum, { length }) => sum + length, 0);
  }

  /** Never rejects, and decides at once: calls are judged in the order in which they are made. */
  async take(subject: string, limits: RateLimits): Promise<RateVerdict> {
    const now = Math.floor(this.#clock.monotonic());
    const active = activeWindows(limits);
    const longest = active.at(-1)?.length;
    const times = longest === undefined ? [] : this.#recall(subject, now - longest);
    const look = () => active.map(({ limit, length }) => windowOf(times, limits[limit], length, now));
    const opensAt = Math.max(now, ...look().map((window) => window.opensAt));
    if (opensAt <= now && longest !== undefined) {
      times.push(now);
      this.#youngTimes += 1;
    }
    return verdictOf(limits, { now, opensAt, windows: look() }, this.#clock.now());
  }

  /** The times of a subject after a time, which puts it into the younger generation. */
  #recall(subject: string, after: number): number[] {
    const isFull = this.#younger.size >= this.#maxSubjects / 2 && !this.#younger.has(subject);
    if (isFull || this.#youngTimes >= this.#maxTimes / 2) {
      this.#older = this.#younger;
      this.#younger = new Map();
      this.#youngTimes = 0;
    }
    const young = this.#younger.get(subject);
    const times = young ?? this.#older.get(subject) ?? [];
    if (!young) {
      this.#older.delete(subject);
      this.#younger.set(subject, times);
      this.#youngTimes += times.length;
    }
    this.#youngTimes -= times.splice(0, firstAfter(times, after)).length;
    return times;
  }
}
