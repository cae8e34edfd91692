import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Clock } from './clock.ts';
import { SallyportError } from './errors.ts';
import type { KeyRecord, KeyStore, Log } from './ports.ts';
import type { Principal } from './principal.ts';

/** Milliseconds after which another process of the service has seen that a key was changed. */
const pollMs = 250;
/** Milliseconds after which nobody stays let in of whom it cannot be found out whether the key is valid. */
const unsureMs = 10_000;
/** Changes are looked for from so many milliseconds before the last look on, as clocks of processes differ. */
const marginMs = 60_000;

/** A key as it is configured: its name, what it may do, and the secret clients send. */
export interface KeyInput {
  readonly name: string;
  readonly role: Principal['role'];
  readonly tenant: string;
  readonly secret: string;
}

/** Somebody who was let in, as long as it matters. */
export interface Watch {
  /**
   * Aborted within a second after the key, or the secret it was let in with, is not valid any more, with `invalid_key` as
   * its reason; with `not_ready` when it could not be found out for ten seconds whether it is.
   */
  readonly gone: AbortSignal;
  /** To be called when it matters no longer. */
  release(): void;
}

/** Whoever wants to know, at most once, that a key is not valid any more, and why: as `Watch.gone` says. */
export interface KeyWatcher {
  keyGone(reason: SallyportError): void;
}

/** Whose key it is: the secret it was let in with, where that is known, else the name. */
export type Holder = Pick<Principal, 'tenant' | 'key'> & Partial<Pick<Principal, 'secretHash'>>;

/** Finds the principal of a presented secret. Keeps digests only. What it cannot find out lets nobody in: it rejects. */
export interface KeyRing {
  /** The principal of the secret, or null when no valid key has it. Takes any text. */
  authenticate(secret: string): Promise<Principal | null>;
  /** The principal of the valid key of this name, or null when the tenant has none. */
  named(tenant: string, key: string): Promise<Principal | null>;
  /** Somebody who was let in, as the key is now; null when it is not valid any more. */
  current(who: Holder): Promise<Principal | null>;
  /** Watches a key. One that is configured is never gone. */
  watch(who: Holder): Watch;
  /** Watches a key for many, each of which costs no more than its place in a set. */
  addWatcher(who: Holder, watcher: KeyWatcher): void;
  /** To be called with the same holder when it matters no longer. */
  removeWatcher(who: Holder, watcher: KeyWatcher): void;
  /** Stops watching. */
  close(): void;
}

/** What the ring is made of. */
export interface KeyRingParts {
  readonly configured: readonly KeyInput[];
  readonly keys: KeyStore;
  readonly clock: Clock;
  readonly logger: Log;
}

/** The hash of a key's secret, as it is stored. The secrets are random and long, so that a plain hash is enough. */
export const secretHash = (secret: string): string => createHash('sha256').update(secret, 'utf8').digest('hex');

const nameOf = ({ tenant, key }: Holder): string => JSON.stringify([tenant, key]);

/**
 * Makes the ring of the configured keys and those of the store. Keys are found by the hash of their secret, so that the
 * time of a lookup tells nothing about a secret. Throws when two configured keys share a secret, or two of a tenant a
 * name, as neither could be told from the other.
 */
export function createKeyRing(parts: KeyRingParts): KeyRing {
  return new Ring(parts);
}

/** A key, or one secret of a key, that is watched. */
interface Watched extends Holder {
  /** Null: any secret of the key. */
  readonly hash: string | null;
  readonly watchers: Set<KeyWatcher>;
  /** When it expires; null: never; undefined: not yet known. */
  until: number | null | undefined;
  /** Since when it could not be found out whether it is valid, by the clock that only grows. */
  unsureSince: number | null;
}

class Ring implements KeyRing {
  readonly #parts: KeyRingParts;
  readonly #configured = new Map<string, Principal>();
  readonly #byName = new Map<string, Principal>();
  /** By the hash, or the name, that is watched. */
  readonly #watched = new Map<string, Watched>();
  #polling: AbortController | null = null;
  /** When all that was changed before was seen. */
  #seenUntil = 0;
  #failing = false;

  constructor(parts: KeyRingParts) {
    this.#parts = parts;
    for (const { secret, tenant, name, role } of parts.configured) {
      const reach = { role, narrowing: null, expiresAt: null };
      const principal = Object.freeze({ tenant, key: name, secretHash: null, ...reach });
      this.#configured.set(secretHash(secret), principal);
      this.#byName.set(nameOf(principal), principal);
    }
    if (this.#configured.size !== parts.configured.length) throw new Error('two keys have the same secret');
    if (this.#byName.size !== parts.configured.length) throw new Error('two keys have the same name');
  }

  authenticate(secret: string): Promise<Principal | null> {
    return this.#ofHash(secretHash(secret));
  }

  async named(tenant: string, key: string): Promise<Principal | null> {
    const configured = this.#byName.get(nameOf({ tenant, key }));
    if (configured) return configured;
    const found = await this.#parts.keys.get(tenant, key);
    return found && this.#valid(found, { hash: null, until: null });
  }

  current(who: Holder): Promise<Principal | null> {
    const { tenant, key, secretHash: hash = null } = who;
    return hash === null ? this.named(tenant, key) : this.#ofHash(hash);
  }

  watch(who: Holder): Watch {
    const watcher = new AbortController();
    const told = { keyGone: (reason: SallyportError) => watcher.abort(reason) };
    this.addWatcher(who, told);
    return { gone: watcher.signal, release: () => this.removeWatcher(who, told) };
  }

  addWatcher(who: Holder, watcher: KeyWatcher): void {
    if (this.#byName.has(nameOf(who))) return;
    const { tenant, key, secretHash: hash = null } = who;
    const id = hash ?? nameOf(who);
    const watched: Watched = this.#watched.get(id) ?? {
      tenant,
      key,
      hash,
      watchers: new Set(),
      until: undefined,
      unsureSince: null,
    };
    this.#watched.set(id, watched);
    watched.watchers.add(watcher);
    this.#polling ??= this.#startPolling();
  }

  removeWatcher(who: Holder, watcher: KeyWatcher): void {
    const id = who.secretHash ?? nameOf(who);
    const watched = this.#watched.get(id);
    if (watched?.watchers.delete(watcher) && watched.watchers.size === 0) this.#forget(id);
  }

  close(): void {
    this.#polling?.abort();
    this.#polling = null;
  }

  #forget(id: string): void {
    this.#watched.delete(id);
    if (this.#watched.size === 0) this.close();
  }

  async #ofHash(hash: string): Promise<Principal | null> {
    const configured = this.#configured.get(hash);
    if (configured) return configured;
    const found = await this.#parts.keys.byHash(hash);
    return found && this.#valid(found.key, { hash, until: found.until });
  }

  #valid(key: KeyRecord, { hash, until }: { hash: string | null; until: number | null }): Principal | null {
    const now = this.#parts.clock.now();
    const { tenant, name, role, narrowing, revokedAt } = key;
    if (this.#byName.has(nameOf({ tenant, key: name }))) return null; // one name is one key
    const expiresAt = until === null ? key.expiresAt : Math.min(until, key.expiresAt ?? until);
    if (revokedAt !== null || (expiresAt !== null && expiresAt <= now)) return null;
    return Object.freeze({ tenant, key: name, secretHash: hash, role, narrowing, expiresAt });
  }

  #startPolling(): AbortController {
    const stop = new AbortController();
    this.#seenUntil = this.#parts.clock.now();
    void this.#poll(stop.signal);
    return stop;
  }

  /** Looks again and again whether those that are watched are still valid. What is released before the first look costs none. */
  async #poll(signal: AbortSignal): Promise<void> {
    for (;;) {
      await delay(pollMs, undefined, { signal, ref: false }).catch(() => undefined);
      if (signal.aborted) return;
      const now = this.#parts.clock.now();
      let failure: unknown = null;
      const unsure = (id: string, watched: Watched, error: unknown) => {
        failure = error;
        this.#unsure(id, watched, error);
      };
      try {
        const due = await this.#due(now);
        for (const [id, watched] of due) await this.#check(id, watched).catch((error) => unsure(id, watched, error));
        this.#seenUntil = now;
      } catch (error) {
        for (const [id, watched] of this.#watched) unsure(id, watched, error);
      }
      if (failure !== null && !this.#failing) {
        this.#parts.logger.error({ err: failure }, 'it could not be found out which keys are valid');
      }
      this.#failing = failure !== null;
    }
  }

  /** Those that were changed lately, have come to their end, or were never asked about. */
  async #due(now: number): Promise<[string, Watched][]> {
    const changes = await this.#parts.keys.changedSince(Math.min(now, this.#seenUntil) - marginMs);
    const changed = new Set(changes.map(({ tenant, name }) => nameOf({ tenant, key: name })));
    return [...this.#watched].filter(([, watched]) => {
      const { until, unsureSince } = watched;
      const isOver = until !== null && (until === undefined || until <= now);
      return isOver || unsureSince !== null || changed.has(nameOf(watched));
    });
  }

  async #check(id: string, watched: Watched): Promise<void> {
    const { hash, tenant, key } = watched;
    const valid = hash === null ? await this.named(tenant, key) : await this.#ofHash(hash);
    if (valid) {
      watched.until = valid.expiresAt;
      watched.unsureSince = null;
      return;
    }
    this.#expel(id, watched);
  }

  /** Whoever is known to be over is gone all the same, and whoever cannot be found out about is so after a while. */
  #unsure(id: string, watched: Watched, error: unknown): void {
    const { clock } = this.#parts;
    const { until } = watched;
    watched.unsureSince ??= clock.monotonic();
    if (typeof until === 'number' && until <= clock.now()) this.#expel(id, watched);
    else if (clock.monotonic() - watched.unsureSince >= unsureMs) {
      this.#expel(id, watched, new SallyportError('not_ready', { cause: error }));
    }
  }

  #expel(id: string, watched: Watched, reason = new SallyportError('invalid_key')): void {
    this.#watched.delete(id);
    for (const watcher of watched.watchers) watcher.keyGone(reason);
    if (this.#watched.size === 0) this.close();
  }
}
