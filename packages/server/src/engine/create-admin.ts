import type { ProcessInfo } from '@sallyport/protocol';
import type { Admin, AdminParts } from './admin.ts';
import { auditReads } from './audit-reads.ts';
import { isoTime } from './clock.ts';
import { keyAdmin } from './key-admin.ts';
import type { LiveProcess } from './ports.ts';
import { stopAdmin } from './stop-admin.ts';
import { tenantAdmin } from './tenant-admin.ts';
import { usageReads } from './usage-reads.ts';

function processInfo({ id, pid, startedAt, state, order }: LiveProcess): ProcessInfo {
  return {
    process_id: id,
    pid,
    state,
    tenant: order?.ref.tenant ?? null,
    session_id: order?.ref.conversation ?? null,
    model: order?.profile.model ?? null,
    permission_mode: order?.profile.permissionMode ?? null,
    started_at: isoTime(startedAt),
  };
}

/** What those who run the service do, over its stores. */
export function createAdmin(parts: AdminParts): Admin {
  return {
    ...tenantAdmin(parts),
    ...keyAdmin(parts),
    ...stopAdmin(parts),
    ...usageReads(parts),
    ...auditReads(parts),
    processes: async () => parts.runner.processes().map(processInfo),
    settings: async () => ({ ...parts.settings, items: [...parts.settings.items] }),
  };
}
