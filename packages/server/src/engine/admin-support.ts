import type { TestContext } from 'node:test';
import { openStores, type Stores } from '../stores/stores.ts';
import { aDirectory } from '../testing/directory.ts';
import type { Admin, AdminParts } from './admin.ts';
import type { Clock } from './clock.ts';
import { createAdmin } from './create-admin.ts';
import type { AuditRow } from './ports.ts';
import type { Principal } from './principal.ts';

/** A key that may do everything, as it is configured. */
export const master: Principal = {
  tenant: 'default',
  key: 'master',
  secretHash: null,
  role: 'admin',
  narrowing: null,
  expiresAt: null,
};

/** The administration over real stores, with a clock that the test moves. */
export interface AdminBench {
  readonly admin: Admin;
  readonly stores: Stores;
  /** How often the stops were read again. */
  readonly refreshed: () => number;
  /** A directory for roots, by its real path. */
  readonly root: string;
  /** The time now. */
  now: number;
  /** All lines of the audit log. */
  lines(): Promise<AuditRow[]>;
}

/** Makes an administration that goes with the test. */
export async function adminBench(t: TestContext, parts: Partial<AdminParts> = {}): Promise<AdminBench> {
  const root = aDirectory(t);
  const clock: Clock = { now: () => bench.now, monotonic: () => bench.now };
  const stores = await openStores({ dataDir: aDirectory(t), clock });
  t.after(() => stores.close());
  let refreshes = 0;
  const stopsHeld = {
    refresh: async () => {
      refreshes += 1;
      return [];
    },
  };
  const configured = [
    { tenant: 'default', name: 'master', role: 'admin' },
    { tenant: 'default', name: 'special', role: 'user' },
  ] as const;
  const runner = { processes: () => [] };
  const broker = { upstreams: () => [] };
  const settings = { items: [], configuration: 'c' };
  const bench: AdminBench = {
    admin: createAdmin({ ...stores, stopsHeld, clock, configured, runner, broker, settings, ...parts }),
    stores,
    refreshed: () => refreshes,
    root,
    now: Date.UTC(2026, 10, 21, 12),
    lines: () => stores.audit.read(null, 0, 1000),
  };
  return bench;
}
