import type { IncomingMessage } from 'node:http';
import { SallyportError } from '../engine/errors.ts';
import type { Limiter, RateLimits, RateVerdict } from '../engine/ports.ts';
import type { Principal } from '../engine/principal.ts';
import { subjectOfAddress } from './client-address.ts';

/** Where requests are counted. Two, so that no number of addresses can make a key be forgotten. */
export interface Limiters {
  readonly keys: Limiter;
  /** Of those whose authentication failed. */
  readonly addresses: Limiter;
}

/** A request that is over a limit, with all that its client is told. */
export class RateLimitedError extends SallyportError {
  readonly limits: RateLimits;

  constructor({ limits, retryAfter }: RateVerdict) {
    super('rate_limited', { retryAfter });
    this.limits = limits;
  }
}

/** The headers that tell a client where it stands. A window that is off has none. */
export function rateHeaders({ limits, ...verdict }: RateVerdict): Record<string, string> {
  const { perMinute, perHour, burst } = limits;
  return {
    ...(perMinute > 0 && {
      'x-ratelimit-limit-minute': String(perMinute),
      'x-ratelimit-remaining-minute': String(verdict.remainingMinute),
    }),
    ...(perHour > 0 && {
      'x-ratelimit-limit-hour': String(perHour),
      'x-ratelimit-remaining-hour': String(verdict.remainingHour),
    }),
    ...(perMinute + perHour + burst > 0 && { 'x-ratelimit-reset': String(verdict.resetAt) }),
  };
}

/** The limits that a key has of its own, and the service's where it has none. */
export function limitsFor(principal: Principal | null, service: RateLimits): RateLimits {
  return { ...service, ...principal?.narrowing?.rates };
}

export interface RatesOptions {
  readonly limiters: Limiters;
  /** The limits of a key; of null: those of an address whose authentication fails. */
  readonly limitsOf: (principal: Principal | null) => RateLimits;
  readonly addressOf: (raw: IncomingMessage) => string;
}

/** Counts requests: of those who are known on their key, of all others on their address. */
export class Rates {
  readonly #options: RatesOptions;
  readonly #headers = new WeakMap<IncomingMessage, Record<string, string>>();

  constructor(options: RatesOptions) {
    this.#options = options;
  }

  /** The headers that the answer to a request has to have; none when it was not counted. */
  headersOf(raw: IncomingMessage): Readonly<Record<string, string>> {
    return this.#headers.get(raw) ?? {};
  }

  /**
   * Gives who asks as `find` does, and counts the request. It is not counted when it is `free` or the key lacks the right,
   * but a failed authentication always is, on the address. Rejects with `RateLimitedError` when it is over a limit, else
   * with what `find` rejects with. Whoever has a key is not refused because of its address.
   */
  async admit(raw: IncomingMessage, find: () => Promise<Principal>, free = false): Promise<Principal> {
    const principal = await find().catch(async (error: unknown) => {
      if (error instanceof SallyportError && error.status === 401) await this.#countAddress(raw);
      throw error;
    });
    if (!free) this.#note(raw, await this.#takeOf(principal));
    return principal;
  }

  /** Counts one more request of a key, one that has no headers. Rejects with `RateLimitedError` when it is over a limit. */
  async count(principal: Principal): Promise<void> {
    const verdict = await this.#takeOf(principal);
    if (!verdict.allowed) throw new RateLimitedError(verdict);
  }

  #takeOf(principal: Principal): Promise<RateVerdict> {
    const { limiters, limitsOf } = this.#options;
    return limiters.keys.take(JSON.stringify([principal.tenant, principal.key]), limitsOf(principal));
  }

  async #countAddress(raw: IncomingMessage): Promise<void> {
    const { limiters, limitsOf, addressOf } = this.#options;
    this.#note(raw, await limiters.addresses.take(subjectOfAddress(addressOf(raw)), limitsOf(null)));
  }

  /** Keeps what the answer has to say. Throws when that is no. */
  #note(raw: IncomingMessage, verdict: RateVerdict): void {
    this.#headers.set(raw, rateHeaders(verdict));
    if (!verdict.allowed) throw new RateLimitedError(verdict);
  }
}
