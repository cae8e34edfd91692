/**
 * How many times the free places a tenant may hold. So a tenant whose calls do not end cannot take the places of all:
 * alone it gets four fifths, two that want all they can get have four ninths each, and there is one for whoever is next.
 */
const share = 4;

/** The places of one upstream: calls that may be under way there at once. */
export class Places {
  /** May be set to less than are taken; then none is given until enough are back. */
  most: number;
  readonly #held = new Map<string, number>();
  #taken = 0;

  constructor(most: number) {
    this.most = most;
  }

  get taken(): number {
    return this.#taken;
  }

  hasRoom(tenant: string): boolean {
    const free = this.most - this.#taken;
    return free > 0 && (this.#held.get(tenant) ?? 0) < share * free;
  }

  /** Takes a place, room or not. Gives it back when called; calling it again changes nothing. */
  take(tenant: string): () => void {
    this.#add(tenant, 1);
    let taken = true;
    return () => {
      if (taken) this.#add(tenant, -1);
      taken = false;
    };
  }

  #add(tenant: string, change: number): void {
    const held = (this.#held.get(tenant) ?? 0) + change;
    this.#taken += change;
    if (held > 0) this.#held.set(tenant, held);
    else this.#held.delete(tenant);
  }
}

/** Tries to get what is waited for; null: not yet. */
export type TryEnter<T> = () => T | null;

/** A line in which tenants take turns. */
export class WaitingLine<T> {
  /** Those who wait, by tenant, in the order in which tenants are served next. */
  readonly #waiting = new Map<string, (() => boolean)[]>();

  /** Waits until `tryEnter` gives something; null when the signal is aborted or the time is over first. */
  async wait(tenant: string, tryEnter: TryEnter<T>, signal: AbortSignal, milliseconds: number): Promise<T | null> {
    const { promise, resolve } = Promise.withResolvers<T | null>();
    const entry = (): boolean => {
      const got = tryEnter();
      if (got !== null) resolve(got);
      return got !== null;
    };
    const leave = () => {
      this.#drop(tenant, entry);
      resolve(null);
    };
    const timer = setTimeout(leave, milliseconds);
    signal.addEventListener('abort', leave, { once: true });
    this.#waiting.set(tenant, [...(this.#waiting.get(tenant) ?? []), entry]);
    if (signal.aborted) leave();
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', leave);
    }
  }

  /** True when a call of the tenant waits. */
  has(tenant: string): boolean {
    return this.#waiting.has(tenant);
  }

  /** Lets in whoever can be: the first of each tenant; a tenant that was served goes to the end. */
  serve(): void {
    for (const [tenant, [first, ...rest]] of this.#waiting) {
      if (first === undefined || !first()) continue;
      this.#waiting.delete(tenant);
      if (rest.length > 0) this.#waiting.set(tenant, rest);
    }
  }

  #drop(tenant: string, entry: () => boolean): void {
    const rest = (this.#waiting.get(tenant) ?? []).filter((other) => other !== entry);
    if (rest.length > 0) this.#waiting.set(tenant, rest);
    else this.#waiting.delete(tenant);
  }
}
