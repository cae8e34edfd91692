import type {
  AuditLine,
  BudgetStanding,
  KeyInfo,
  KeyWithSecret,
  ProcessInfo,
  SettingInfo,
  StopInfo,
  TenantInfo,
  UpstreamInfo,
  UsageLine,
} from '@sallyport/protocol';
import type { Clock } from './clock.ts';
import type { KeyInput } from './keys.ts';
import type {
  AuditStore,
  Broker,
  BudgetStore,
  Budgets,
  KeyStore,
  Narrowing,
  Runner,
  StopStore,
  TenantStore,
  UsageStore,
} from './ports.ts';
import type { Principal, Role } from './principal.ts';
import type { Stops } from './stops.ts';

/** A key that is to be made. */
export interface WantedKey {
  /** Undefined: a name is made. */
  readonly name: string | undefined;
  readonly role: Role;
  readonly narrowing: Narrowing | null;
  /** Seconds; null: as long as the key that makes it. */
  readonly expiresIn: number | null;
}

/** Which days of usage are wanted, by UTC, as `2026-11-21`. */
export interface UsageSpan {
  readonly from: string | undefined;
  readonly to: string | undefined;
}

export interface UsageReport {
  readonly from: string;
  readonly to: string;
  readonly items: UsageLine[];
  readonly total_cost_usd: number;
}

/** What a stop is to name. A part that is null names all. */
export interface WantedStop {
  readonly tenant: string | null;
  readonly key: string | null;
  readonly conversation: string | null;
  readonly reason: string;
}

/** What those who run the service do. Every change is in the audit log, in the same transaction. */
export interface Admin {
  tenants(): Promise<TenantInfo[]>;
  /** Rejects with `tenant_exists`. */
  createTenant(principal: Principal, id: string, budgets: Budgets | null): Promise<TenantInfo>;
  /** Rejects with `tenant_not_found`. */
  setTenantBudgets(principal: Principal, id: string, budgets: Budgets | null): Promise<TenantInfo>;
  /** Rejects with `tenant_not_found`. */
  keys(tenant: string): Promise<KeyInfo[]>;
  /**
   * Rejects with `tenant_not_found`, `key_exists`, `beyond_own_rights`, or `validation_failed` when a workspace root is
   * no directory here or an admin is wanted elsewhere than in `default`.
   */
  createKey(principal: Principal, tenant: string, wanted: WantedKey): Promise<KeyWithSecret>;
  /**
   * Sets the narrowing, and the expiry in seconds from now; what is undefined stays. Rejects with `key_not_found`, or
   * with `beyond_own_rights` when the key, before or after, may more than the principal.
   */
  changeKey(
    principal: Principal,
    tenant: string,
    name: string,
    change: { readonly narrowing: Narrowing | null | undefined; readonly expiresIn: number | undefined },
  ): Promise<KeyInfo>;
  /** `overlap` in seconds. Rejects with `key_not_found`, or `beyond_own_rights` when the key may more than the principal. */
  rotateKey(principal: Principal, tenant: string, name: string, overlap: number): Promise<KeyWithSecret>;
  /** Rejects with `key_not_found`, also when it is revoked already. */
  revokeKey(principal: Principal, tenant: string, name: string): Promise<KeyInfo>;
  /** The processes of this server. */
  processes(): Promise<ProcessInfo[]>;
  /** The upstreams of this server, in the order in which they are used. */
  upstreams(): Promise<UpstreamInfo[]>;
  /** The settings in force, and the name of all of them together. */
  settings(): Promise<{ items: SettingInfo[]; configuration: string }>;
  stops(): Promise<StopInfo[]>;
  /** Resolves when it holds here; running turns are stopped meanwhile. */
  stop(principal: Principal, wanted: WantedStop): Promise<StopInfo>;
  /** Rejects with `stop_not_found`. */
  liftStop(principal: Principal, id: string): Promise<StopInfo>;
  /** What the principal's own key used. Rejects with `validation_failed` when the days are in no order or too many. */
  ownUsage(principal: Principal, span: UsageSpan): Promise<UsageReport & { readonly budgets: BudgetStanding[] }>;
  /** What all used, of the principal's tenant only unless it is an admin. Rejects like `ownUsage`. */
  allUsage(
    principal: Principal,
    span: UsageSpan & { readonly tenant: string | undefined; readonly key: string | undefined },
  ): Promise<UsageReport>;
  /** Lines of the audit log after a place, oldest first. */
  audit(
    principal: Principal,
    page: { readonly after: number; readonly limit: number },
  ): Promise<{ items: AuditLine[]; next_cursor: string | null }>;
  /** All lines after a place that are there when it begins, oldest first, page by page. */
  exportAudit(principal: Principal, after: number): AsyncIterable<AuditLine[]>;
}

/** What the administration is made of. */
export interface AdminParts {
  readonly keys: KeyStore;
  readonly tenants: TenantStore;
  readonly stops: StopStore;
  readonly stopsHeld: Pick<Stops, 'refresh'>;
  readonly usage: UsageStore;
  readonly budgets: Pick<BudgetStore, 'standing'>;
  readonly audit: AuditStore;
  readonly clock: Clock;
  readonly runner: Pick<Runner, 'processes'>;
  readonly broker: Pick<Broker, 'upstreams'>;
  readonly settings: { readonly items: readonly SettingInfo[]; readonly configuration: string };
  /** The keys that are not stored. */
  readonly configured: readonly Omit<KeyInput, 'secret'>[];
}

/** Writes down who was let in, who was not, and what admins read. What it cannot write down does not happen. */
export interface Journal {
  /** A key was let in from an address: once an hour for each pair. */
  accepted(principal: Principal, address: string): Promise<void>;
  /** Nobody was let in. Many in a short time are written down as one line with their number. */
  refused(address: string, code: 'unauthenticated' | 'invalid_key'): Promise<void>;
  /** A key asked for what it has no right to: once an hour for each operation. */
  forbidden(principal: Principal, operation: string): Promise<void>;
  /** Somebody reads what belongs to those who run the service. */
  read(principal: Principal, operation: string): Promise<void>;
}
