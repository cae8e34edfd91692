import type { Clock } from '../engine/clock.ts';
import { SallyportError } from '../engine/errors.ts';

/** Gives a place back. Calling it again changes nothing. */
export type Leave = () => void;

/** A number of places, and a bounded queue before them in which tenants take turns. */
export interface Places {
  /** How many are free now. */
  readonly free: number;
  /**
   * Waits for a place. Resolves with null when the signal is aborted first. Rejects at once with `overloaded`, and the
   * seconds after which a place is likely, when no place is free and the queue is full.
   */
  enter(tenant: string, signal: AbortSignal): Promise<Leave | null>;
}

export interface PlacesOptions {
  readonly places: number;
  /** Most that wait. */
  readonly waiting: number;
  readonly clock: Clock;
}

/** Guess of how long a place is held, before anything is known. */
const firstGuessSeconds = 5;
const longestRetrySeconds = 60;

export function createPlaces(options: PlacesOptions): Places {
  return new FairPlaces(options);
}

class FairPlaces implements Places {
  readonly #options: PlacesOptions;
  /** Those who wait, by tenant, in the order in which tenants are served next. */
  readonly #queues = new Map<string, (() => void)[]>();
  #taken = 0;
  #queued = 0;
  /** How long a place is held: a moving mean. */
  #meanSeconds = firstGuessSeconds;

  constructor(options: PlacesOptions) {
    this.#options = options;
  }

  get free(): number {
    return this.#options.places - this.#taken;
  }

  async enter(tenant: string, signal: AbortSignal): Promise<Leave | null> {
    if (signal.aborted) return null;
    if (this.#taken < this.#options.places) return this.#take();
    if (this.#queued >= this.#options.waiting) {
      throw new SallyportError('overloaded', { retryAfter: this.#retryAfter() });
    }
    return await new Promise((resolve) => {
      const grant = (): void => {
        signal.removeEventListener('abort', cancel);
        resolve(this.#take());
      };
      const cancel = (): void => {
        this.#leaveQueue(tenant, grant);
        resolve(null);
      };
      signal.addEventListener('abort', cancel, { once: true });
      this.#queued += 1;
      this.#queues.set(tenant, [...(this.#queues.get(tenant) ?? []), grant]);
    });
  }

  #take(): Leave {
    const { clock } = this.#options;
    this.#taken += 1;
    const since = clock.monotonic();
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#taken -= 1;
      this.#meanSeconds += ((clock.monotonic() - since) / 1000 - this.#meanSeconds) / 8;
      this.#serveNext();
    };
  }

  /** The tenant that is served goes to the end of the line. */
  #serveNext(): void {
    const next = this.#queues.entries().next();
    if (next.done === true) return;
    const [tenant, [grant, ...rest]] = next.value;
    this.#queues.delete(tenant);
    if (rest.length > 0) this.#queues.set(tenant, rest);
    this.#queued -= 1;
    grant?.();
  }

  #leaveQueue(tenant: string, grant: () => void): void {
    const rest = (this.#queues.get(tenant) ?? []).filter((other) => other !== grant);
    this.#queued -= 1;
    if (rest.length > 0) this.#queues.set(tenant, rest);
    else this.#queues.delete(tenant);
  }

  #retryAfter(): number {
    const seconds = Math.ceil((this.#meanSeconds * (this.#queued + 1)) / this.#options.places);
    return Math.min(longestRetrySeconds, Math.max(1, seconds));
  }
}
