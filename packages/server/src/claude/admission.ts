import type { Clock } from '../engine/clock.ts';
import { SallyportError } from '../engine/errors.ts';
import { FairLine, type Comer } from './fair-line.ts';

/** Gives a place back. Calling it again changes nothing. */
export type Leave = () => void;

/** What whoever enters wants. */
export interface Entering {
  /** Most milliseconds that it may wait; default: for however long it takes. */
  readonly patienceMs?: number;
  /**
   * Told where in the line it is, 1 being the next, when it begins to wait for a place, and when that has changed, about
   * once a second at most. Told 0 when it is let in, always.
   */
  readonly queued?: (place: number) => void;
}

/**
 * Places for what runs, and one line before them, in which tenants take turns, and within a tenant its keys.
 *
 * Who is let in has a place for as long as it stays, and a core for its first quarter of a second. Instant models are
 * answered faster two at a time on two cores than four at a time; but with a real one a run soon waits for it, and not
 * for a core.
 */
export interface Places {
  /** How many are free now. */
  readonly free: number;
  /**
   * Waits for a place and a core. Resolves with null when the signal is aborted first. Rejects with `overloaded`, and the
   * seconds after which it is worth coming again: at once when no room is left to wait in or the wait is likely to be
   * longer than its patience, and later when its room is needed for a tenant or key with fewer waiting.
   */
  enter(who: Comer, signal: AbortSignal, entering?: Entering): Promise<Leave | null>;
  /**
   * What `enter` would reject with now; null when it would not. Whoever is told null is expected to enter, and counts as
   * one that waits until then, for 10 s at most.
   */
  refuse(who: Comer, patienceMs: number): SallyportError | null;
  /** One that was expected does not enter. */
  notComing(): void;
}

export interface PlacesOptions {
  readonly places: number;
  /** `Infinity`: a core is never waited for. */
  readonly cores: number;
  /** Most that wait for a place. */
  readonly waiting: number;
  readonly clock: Clock;
}

/** Guess of how long a place is held, before anything is known. */
const firstGuessMs = 5_000;
/** Longest that a core is held. What takes longer waits for the model or a human. */
const coreMs = 250;
/** Time between two tellings of the places in the line. */
const tellMs = 1_000;
/** Longest that somebody is expected who was not refused: its acceptance is written meanwhile. */
const expectedMs = 10_000;
const longestRetrySeconds = 60;

export function createPlaces(options: PlacesOptions): Places {
  return new FairPlaces(options);
}

interface Waiting {
  readonly who: Comer;
  readonly queued: (place: number) => void;
  readonly letIn: () => void;
  readonly refuse: (error: SallyportError) => void;
  /** Where in the line it was last told to be. */
  told: number;
}

class FairPlaces implements Places {
  readonly #options: PlacesOptions;
  readonly #line = new FairLine<Waiting>();
  #taken = 0;
  #cores = 0;
  /** Sum of the times at which those that are in were let in. */
  #since = 0;
  /** How long a place is held: a moving mean. */
  #meanMs = firstGuessMs;
  /** When those were let come that have not entered yet. */
  #expected: number[] = [];
  #telling: NodeJS.Timeout | null = null;

  constructor(options: PlacesOptions) {
    this.#options = options;
  }

  get free(): number {
    return this.#options.places - this.#taken;
  }

  async enter(who: Comer, signal: AbortSignal, entering: Entering = {}): Promise<Leave | null> {
    const { patienceMs = Infinity, queued = () => undefined } = entering;
    this.notComing();
    if (signal.aborted) return null;
    if (this.#line.size === 0 && this.#hasOne()) {
      queued(0);
      return this.#take();
    }
    const refusal = this.#refusal(who, patienceMs, 0);
    if (refusal) throw refusal;
    if (this.#isFull(0)) this.#makeRoom(who);
    return await this.#wait(who, signal, queued);
  }

  refuse(who: Comer, patienceMs: number): SallyportError | null {
    const now = this.#options.clock.monotonic();
    this.#expected = this.#expected.filter((at) => now - at < expectedMs);
    const refusal = this.#refusal(who, patienceMs, this.#expected.length);
    if (refusal === null) this.#expected.push(now);
    return refusal;
  }

  notComing(): void {
    this.#expected.shift();
  }

  #hasOne(): boolean {
    return this.free > 0 && this.#cores < this.#options.cores;
  }

  /** Who waits for a core only needs no room. */
  #isFull(expected: number): boolean {
    return this.#line.size + expected >= this.#options.waiting + this.free;
  }

  #refusal(who: Comer, patienceMs: number, expected: number): SallyportError | null {
    const waitMs = this.#waitMs(this.#line.before(who) + expected);
    if (this.#isFull(expected) && this.#line.givingWay(who) === null) return overloaded(waitMs);
    return waitMs > patienceMs ? overloaded(waitMs - patienceMs) : null;
  }

  /** How long whoever comes after so many others is likely to wait. */
  #waitMs(before: number): number {
    const { places, cores, clock } = this.#options;
    // Where those that are in have been there for longer than was usual, that is what is usual now.
    const ageMs = this.#taken === 0 ? 0 : clock.monotonic() - this.#since / this.#taken;
    const forPlace = (Math.max(0, before + 1 - this.free) * Math.max(this.#meanMs, ageMs)) / places;
    const forCore = (Math.max(0, before + 1 - (cores - this.#cores)) * coreMs) / cores;
    return Math.max(forPlace, forCore);
  }

  #makeRoom(who: Comer): void {
    const last = this.#line.givingWay(who);
    last?.refuse(overloaded(this.#waitMs(this.#line.before(last.who))));
  }

  #wait(who: Comer, signal: AbortSignal, queued: (place: number) => void): Promise<Leave | null> {
    return new Promise((resolve, reject) => {
      const place = this.#line.before(who) + 1;
      const waiting: Waiting = {
        who,
        queued,
        told: 0,
        letIn: () => {
          signal.removeEventListener('abort', cancel);
          queued(0);
          resolve(this.#take());
        },
        refuse: (error) => {
          signal.removeEventListener('abort', cancel);
          leaveLine();
          reject(error);
        },
      };
      const leaveLine = this.#line.add(who, waiting);
      const cancel = (): void => {
        leaveLine();
        this.#tellSoon();
        resolve(null);
      };
      signal.addEventListener('abort', cancel, { once: true });
      this.#tell(waiting, place);
      this.#tellSoon();
    });
  }

  #take(): Leave {
    const { clock } = this.#options;
    const since = clock.monotonic();
    const leaveCore = this.#takeCore();
    this.#taken += 1;
    this.#since += since;
    return once(() => {
      this.#taken -= 1;
      this.#since = this.#taken === 0 ? 0 : this.#since - since;
      this.#meanMs += (clock.monotonic() - since - this.#meanMs) / 8;
      leaveCore();
      this.#serve();
    });
  }

  #takeCore(): Leave {
    if (this.#options.cores === Infinity) return () => undefined;
    this.#cores += 1;
    const leave = once(() => {
      clearTimeout(timer);
      this.#cores -= 1;
      this.#serve();
    });
    const timer = setTimeout(leave, coreMs);
    return leave;
  }

  #serve(): void {
    while (this.#hasOne()) {
      const next = this.#line.shift();
      if (next === null) return;
      next.letIn();
    }
    this.#tellSoon();
  }

  /** Tells everybody in the line of the changes since the last telling. */
  #tellSoon(): void {
    if (this.#line.size === 0 || this.#telling) return;
    const tell = () => {
      this.#telling = null;
      let place = 0;
      for (const waiting of this.#line.inOrder()) this.#tell(waiting, ++place);
    };
    this.#telling = setTimeout(tell, tellMs).unref();
  }

  /** Who has a place and waits for a core only is not told: that is over at once. */
  #tell(waiting: Waiting, place: number): void {
    if (place <= this.free || place === waiting.told) return;
    waiting.told = place;
    waiting.queued(place);
  }
}

function overloaded(ms: number): SallyportError {
  const retryAfter = Math.min(longestRetrySeconds, Math.max(1, Math.ceil(ms / 1000)));
  return new SallyportError('overloaded', { retryAfter });
}

function once(work: () => void): () => void {
  let isDone = false;
  return () => {
    if (isDone) return;
    isDone = true;
    work();
  };
}
