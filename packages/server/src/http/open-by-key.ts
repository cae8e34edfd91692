import { SallyportError } from '../engine/errors.ts';
import type { Principal } from '../engine/principal.ts';

/** What each key has open: requests that are not answered to their end, and sockets. */
export class OpenByKey {
  readonly #most: number;
  readonly #open = new Map<string, number>();

  /** `most`: of one key at a time. */
  constructor(most: number) {
    this.#most = most;
  }

  /** How many keys have something open. */
  get keys(): number {
    return this.#open.size;
  }

  /** Counts one more. Throws `overloaded`, and counts nothing, at one too many. */
  enter({ tenant, key }: Pick<Principal, 'tenant' | 'key'>): void {
    const name = JSON.stringify([tenant, key]);
    const open = this.#open.get(name) ?? 0;
    if (open >= this.#most) {
      const detail = 'This key has too many requests and sockets open. Wait for one to end, or close one.';
      throw new SallyportError('overloaded', { detail, retryAfter: 1 });
    }
    this.#open.set(name, open + 1);
  }

  /** Takes one back. To be called once for each that has entered. */
  leave({ tenant, key }: Pick<Principal, 'tenant' | 'key'>): void {
    const name = JSON.stringify([tenant, key]);
    const left = (this.#open.get(name) ?? 1) - 1;
    if (left === 0) this.#open.delete(name);
    else this.#open.set(name, left);
  }
}
