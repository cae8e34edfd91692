import type { PermissionMode, Role, ToolName } from '@sallyport/protocol';

/** What a key may less than its role; a part that is null is not narrowed. */
export interface Narrowing {
  readonly permissionModes: readonly PermissionMode[] | null;
  readonly tools: readonly ToolName[] | null;
  readonly models: readonly string[] | null;
  /** Real paths: projects must lie inside one of them, and inside the service's own roots. */
  readonly workspaceRoots: readonly string[] | null;
  /** In place of the service's own; a part that is missing stays. */
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

/** Most that may be spent, in USD; null: no bound. Days and months are those of UTC. */
export interface Budgets {
  /** By one turn. */
  readonly run: number | null;
  readonly conversation: number | null;
  readonly day: number | null;
  readonly month: number | null;
}

/** A key as it is stored: its secrets are not among it. Its name is never used again in its tenant. */
export interface KeyRecord {
  readonly tenant: string;
  readonly name: string;
  readonly role: Role;
  readonly narrowing: Narrowing | null;
  readonly createdAt: number;
  /** Name of the key that made it. */
  readonly createdBy: string;
  /** From then on it is unknown; null: never. */
  readonly expiresAt: number | null;
  readonly revokedAt: number | null;
  /** Until when the secret before the last rotation is valid; null: there is none. */
  readonly previousUntil: number | null;
}

/** Thrown when a key is to be made with a name or a hash that is, or was, taken. */
export class KeyTakenError extends Error {
  constructor(name: string) {
    super(`a key cannot be made as ${JSON.stringify(name)}: its name or its secret is taken`);
    this.name = 'KeyTakenError';
  }
}

/**
 * Keys that are made while the service runs, by the hash of their secret. A line for the audit log is appended in the
 * transaction of the change it tells of, and not when nothing changed.
 */
export interface KeyStore {
  /** Throws `KeyTakenError`, with nothing stored, when any key has the hash, or one of the tenant the name. */
  create(key: KeyRecord, hash: string, audit: AuditEntry): Promise<void>;
  /**
   * The key of a secret's hash, whatever its state; null when there is none. `until` is set when it is the secret before
   * the last rotation: it is unknown from then on.
   */
  byHash(hash: string): Promise<{ readonly key: KeyRecord; readonly until: number | null } | null>;
  get(tenant: string, name: string): Promise<KeyRecord | null>;
  /** Newest first, revoked ones too. */
  list(tenant: string): Promise<KeyRecord[]>;
  /** Sets what the change names; false when there is none, or it is revoked. */
  change(
    tenant: string,
    name: string,
    change: Partial<Pick<KeyRecord, 'narrowing' | 'expiresAt'>>,
    audit: AuditEntry,
  ): Promise<boolean>;
  /**
   * Gives it another secret; the one it had is valid until `previousUntil`, an older one is not any more. False when
   * there is none, or it is revoked. Throws `KeyTakenError` when any key has the hash.
   */
  rotate(tenant: string, name: string, hash: string, previousUntil: number, audit: AuditEntry): Promise<boolean>;
  /** False when there is none, or it is revoked already. */
  revoke(tenant: string, name: string, at: number, audit: AuditEntry): Promise<boolean>;
  /**
   * Those of all tenants that were changed, rotated or revoked at or after a time, by the clock of the process that made
   * the change: for processes that hold what was let in with them.
   */
  changedSince(at: number): Promise<{ readonly tenant: string; readonly name: string }[]>;
}

export interface TenantRecord {
  readonly id: string;
  readonly createdAt: number;
  readonly budgets: Budgets | null;
}

/** Tenants. The tenant `default` is always there; it was created at 0. */
export interface TenantStore {
  /** False, with nothing stored, when it is there already. */
  create(tenant: TenantRecord, audit: AuditEntry): Promise<boolean>;
  get(id: string): Promise<TenantRecord | null>;
  /** By id. */
  list(): Promise<TenantRecord[]>;
  /** False when there is no such tenant. */
  setBudgets(id: string, budgets: Budgets | null, audit: AuditEntry): Promise<boolean>;
}

/** A stop: nothing runs in what it names. A part that is null names all of them. */
export interface Stop {
  readonly id: string;
  readonly tenant: string | null;
  readonly key: string | null;
  readonly conversation: string | null;
  readonly reason: string;
  readonly createdAt: number;
  readonly createdBy: string;
}

/** The stops that hold. */
export interface StopStore {
  add(stop: Stop, audit: AuditEntry): Promise<void>;
  /** Oldest first. */
  list(): Promise<Stop[]>;
  /** Removes it and gives what it was; null when there is none. */
  lift(id: string, audit: (stop: Stop) => AuditEntry): Promise<Stop | null>;
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
  /** The place of the last line of all tenants; 0 when there is none. */
  last(): Promise<number>;
}
