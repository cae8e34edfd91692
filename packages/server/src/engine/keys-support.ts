import type { Clock } from './clock.ts';
import { createKeyRing, secretHash, type KeyInput, type KeyRing } from './keys.ts';
import { KeyTakenError, type KeyRecord, type KeyStore } from './ports.ts';

/** Support for tests of keys that come and go: a store in memory, which several rings can share as processes do. */

interface Kept {
  record: KeyRecord;
  hash: string;
  previousHash: string | null;
  changedAt: number;
}

export const keyRecord = (name: string, changes: Partial<KeyRecord> = {}): KeyRecord => ({
  tenant: 'default',
  name,
  role: 'user',
  narrowing: null,
  createdAt: 0,
  createdBy: 'admin',
  expiresAt: null,
  revokedAt: null,
  previousUntil: null,
  ...changes,
});

/** A clock that a test moves, also back. */
export class MovedClock implements Clock {
  #passed = 0;

  now(): number {
    return 1_900_000_000_000 + this.#passed;
  }

  monotonic(): number {
    return this.#passed;
  }

  pass(milliseconds: number): void {
    this.#passed += milliseconds;
  }
}

/** Keys in memory. Lines for the audit log are dropped. */
export class MemoryKeys implements KeyStore {
  readonly #clock: Pick<Clock, 'now'>;
  readonly #kept: Kept[] = [];
  /** Thrown by every question. */
  failure: Error | null = null;
  /** How often it was asked anything, and how often what has changed. */
  asked = 0;
  looks = 0;

  constructor(clock: Pick<Clock, 'now'>) {
    this.#clock = clock;
  }

  /** Makes a key with a secret; without one it is `secret-of-` and its name. */
  async add(record: KeyRecord, secret = `secret-of-${record.name}`): Promise<void> {
    return this.create(record, secretHash(secret));
  }

  async create(record: KeyRecord, hash: string): Promise<void> {
    const isTaken = ({ record: { tenant, name }, hash: taken, previousHash }: Kept) =>
      (tenant === record.tenant && name === record.name) || taken === hash || previousHash === hash;
    if (this.#kept.some(isTaken)) throw new KeyTakenError(record.name);
    this.#kept.push({ record, hash, previousHash: null, changedAt: this.#clock.now() });
  }

  async byHash(hash: string) {
    this.#ask();
    const kept = this.#kept.find((one) => one.hash === hash || one.previousHash === hash);
    return kept ? { key: kept.record, until: kept.hash === hash ? null : kept.record.previousUntil } : null;
  }

  async get(tenant: string, name: string) {
    this.#ask();
    return this.#find(tenant, name)?.record ?? null;
  }

  async list(tenant: string) {
    this.#ask();
    return this.#kept.map(({ record }) => record).filter((record) => record.tenant === tenant);
  }

  async change(tenant: string, name: string, change: Partial<Pick<KeyRecord, 'narrowing' | 'expiresAt'>>) {
    return this.#set(tenant, name, change);
  }

  async rotate(tenant: string, name: string, hash: string, previousUntil: number) {
    const kept = this.#find(tenant, name);
    if (!kept || !this.#set(tenant, name, { previousUntil })) return false;
    kept.previousHash = kept.hash;
    kept.hash = hash;
    return true;
  }

  async revoke(tenant: string, name: string, at: number) {
    return this.#set(tenant, name, { revokedAt: at });
  }

  async changedSince(at: number) {
    this.looks += 1;
    this.#ask();
    return this.#kept
      .filter(({ changedAt }) => changedAt >= at)
      .map(({ record: { tenant, name } }) => ({ tenant, name }));
  }

  #ask(): void {
    this.asked += 1;
    if (this.failure) throw this.failure;
  }

  #find(tenant: string, name: string): Kept | undefined {
    return this.#kept.find(({ record }) => record.tenant === tenant && record.name === name);
  }

  #set(tenant: string, name: string, change: Partial<KeyRecord>): boolean {
    const kept = this.#find(tenant, name);
    if (!kept || kept.record.revokedAt !== null) return false;
    kept.record = { ...kept.record, ...change };
    kept.changedAt = this.#clock.now();
    return true;
  }
}

/** A ring of configured keys and those in memory. Lines of its log that are errors are added to `errors`. */
export function ringOf(configured: readonly KeyInput[], keys: KeyStore, clock: Clock, errors: unknown[] = []): KeyRing {
  const error = (...line: unknown[]) => void errors.push(line);
  return createKeyRing({ configured, keys, clock, logger: { info() {}, warn() {}, error } });
}
