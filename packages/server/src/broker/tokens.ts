import { createHash } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { newSecret } from '../engine/ids.ts';

/** The tokens that were given out. Keeps digests only, and finds by digest, so that a lookup's time tells nothing. */
export class Tokens<T> {
  readonly #holders = new Map<string, T>();

  issue(holder: T): string {
    const token = newSecret('sallyport-run-');
    this.#holders.set(digest(token), holder);
    return token;
  }

  /** Who holds the token; undefined when it was never given out or is forgotten. */
  find(token: string): T | undefined {
    return this.#holders.get(digest(token));
  }

  forget(token: string): void {
    this.#holders.delete(digest(token));
  }

  /** Forgets all tokens and gives those who held them. */
  clear(): T[] {
    const holders = [...this.#holders.values()];
    this.#holders.clear();
    return holders;
  }
}

/** The token a request presents, in `x-api-key` or as a bearer; empty when there is none. */
export function presentedToken(headers: IncomingHttpHeaders): string {
  const key = headers['x-api-key'];
  if (typeof key === 'string' && key !== '') return key;
  return /^Bearer (\S+)$/i.exec(headers.authorization ?? '')?.[1] ?? '';
}

function digest(token: string): string {
  return createHash('sha256').update(token, 'utf8').digest('base64');
}
