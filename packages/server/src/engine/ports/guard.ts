import type { PermissionMode, ToolName } from '@sallyport/protocol';
import type { Role } from '../principal.ts';

/** What a key may less than its role; a part that is null is not narrowed. */
export interface Narrowing {
  readonly permissionModes: readonly PermissionMode[] | null;
  readonly tools: readonly ToolName[] | null;
  readonly models: readonly string[] | null;
  /** Real paths: projects must lie inside one of them, and inside the service's own roots. */
  readonly workspaceRoots: readonly string[] | null;
  readonly rates: Partial<RateLimits> | null;
  readonly budgets: Budgets | null;
}

/** Requests that are let through; 0: no limit. */
export interface RateLimits {
  /** In any 60 seconds. */
  readonly perMinute: number;
  /** In any 3600 seconds. */
  readonly perHour: number;
  /** In any 10 seconds. */
  readonly burst: number;
}

/** Most that may be spent, in USD; null: no bound. */
export interface Budgets {
  readonly perRun: number | null;
  readonly perDay: number | null;
  readonly perMonth: number | null;
}

/** A key as it is stored: its secret is not among it. */
export interface KeyRecord {
  readonly tenant: string;
  readonly id: string;
  /** Unique among the keys of the tenant that are not revoked. */
  readonly name: string;
  readonly role: Role;
  readonly narrowing: Narrowing | null;
  readonly createdAt: number;
  /** Name of the key that made it. */
  readonly createdBy: string;
  /** From then on it is unknown; null: never. */
  readonly expiresAt: number | null;
  readonly revokedAt: number | null;
}

/** Thrown when a key is to be made with a hash, an id or a name that is taken. */
export class KeyTakenError extends Error {
  constructor(name: string) {
    super(`a key cannot be made as ${JSON.stringify(name)}: its name, its id or its secret is taken`);
    this.name = 'KeyTakenError';
  }
}

/**
 * Keys that are made while the service runs, by the hash of their secret. A line for the audit log is appended in the
 * transaction of the change it tells of, and not when nothing changed.
 */
export interface KeyStore {
  /**
   * Throws `KeyTakenError`, with nothing stored, when the hash is taken by any key, the id by one of the tenant, or the
   * name by one of the tenant that is not revoked.
   */
  create(key: KeyRecord, hash: string, audit?: AuditEntry): Promise<void>;
  /** The key of a secret's hash, whatever its state; null when there is none. */
  byHash(hash: string): Promise<KeyRecord | null>;
  get(tenant: string, id: string): Promise<KeyRecord | null>;
  /** Newest first, revoked ones too. */
  list(tenant: string): Promise<KeyRecord[]>;
  /** Sets when it expires; false when there is none, or it is revoked. */
  expire(tenant: string, id: string, at: number, audit?: AuditEntry): Promise<boolean>;
  /** False when there is none, or it is revoked already. */
  revoke(tenant: string, id: string, at: number, audit?: AuditEntry): Promise<boolean>;
  /**
   * Those of all tenants that were revoked, or given another expiry, at or after a time: for processes that have cached
   * them. The time is when the change was made, by the clock of the process that made it, not when it takes effect.
   */
  changedSince(at: number): Promise<KeyRecord[]>;
}

export interface TenantRecord {
  readonly id: string;
  readonly createdAt: number;
  /** Its keys are unknown while it is set. */
  readonly disabledAt: number | null;
  readonly budgets: Budgets | null;
}

/** Tenants. The tenant `default` is always there; it was created at 0. */
export interface TenantStore {
  /** False when it is there already. */
  create(tenant: TenantRecord): Promise<boolean>;
  get(id: string): Promise<TenantRecord | null>;
  /** By id. */
  list(): Promise<TenantRecord[]>;
  /** Sets what the change names; false when there is no such tenant. */
  update(id: string, change: Partial<Pick<TenantRecord, 'disabledAt' | 'budgets'>>): Promise<boolean>;
}

/** What the limiter says to one request. */
export interface RateVerdict {
  readonly allowed: boolean;
  readonly limits: RateLimits;
  readonly remainingMinute: number;
  readonly remainingHour: number;
  /** Epoch second at which the binding window frees a place. */
  readonly resetAt: number;
  /** Seconds to wait until a request is let through; 0 when allowed. */
  readonly retryAfter: number;
}

/** Counts requests in three sliding windows, checked together and charged only when all allow. */
export interface Limiter {
  take(subject: string, limits: RateLimits): Promise<RateVerdict>;
}

/** One line of the audit log, before it is chained. */
export interface AuditEntry {
  readonly at: number;
  readonly tenant: string;
  /** Name of the key that acted, or `service`. */
  readonly actor: string;
  /** What happened, as `tool.start`, `key.create`, `auth.refused`. */
  readonly action: string;
  readonly ref: { readonly conversation: string; readonly turn: string } | null;
  /** What it happened to: a tool call, a key, an approval. */
  readonly subject: string | null;
  /** Details that may be read by whoever reads the log: never a secret, never an input itself. */
  readonly details: Readonly<Record<string, string | number | boolean | null>>;
}

/** A line of the log with its place and the hash that chains it to the one before. */
export interface AuditRow extends AuditEntry {
  readonly seq: number;
  readonly hash: string;
}

/**
 * The append-only log of who did what, one for all tenants. Its places count from 1 without a gap, and `verifyChain` of
 * `audit-chain.ts` finds what was changed later.
 */
export interface AuditStore {
  /** Appends lines in order, all of them or none; they are durable when it resolves. */
  append(entries: readonly AuditEntry[]): Promise<void>;
  /** Up to `limit` lines after the place `after`, in order; of one tenant, or of all when it is null. Only those of all chain. */
  read(tenant: string | null, after: number, limit: number): Promise<AuditRow[]>;
}
