import type { ProcessInfo, UpstreamInfo } from '@sallyport/protocol';
import type { Admin, AdminParts } from './admin.ts';
import { auditReads } from './audit-reads.ts';
import { isoTime } from './clock.ts';
import { keyAdmin } from './key-admin.ts';
import type { LiveProcess, UpstreamState } from './ports.ts';
import { stopAdmin } from './stop-admin.ts';
import { tenantAdmin } from './tenant-admin.ts';
import { usageReads } from './usage-reads.ts';

function processInfo(process: LiveProcess, now: number): ProcessInfo {
  const { id, pid, startedAt, state, sessions, memoryBytes, order } = process;
  return {
    process_id: id,
    pid,
    state,
    uses: sessions,
    memory_bytes: memoryBytes,
    tenant: order?.ref.tenant ?? null,
    session_id: order?.ref.conversation ?? null,
    model: order?.profile.model ?? null,
    permission_mode: order?.profile.permissionMode ?? null,
    tools: order ? [...order.profile.tools] : null,
    project_path: order?.profile.projectPath ?? null,
    started_at: isoTime(startedAt),
    age_seconds: Math.max(0, Math.round((now - startedAt) / 1000)),
  };
}

const timeOf = (until: number | null): string | null => (until === null ? null : isoTime(until));

function upstreamInfo({ name, state, until, calls, maxCalls, credentials }: UpstreamState): UpstreamInfo {
  return {
    name,
    state,
    until: timeOf(until),
    calls,
    max_calls: maxCalls,
    keys: credentials.map((each) => ({ ...each, until: timeOf(each.until) })),
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
    processes: async () => parts.runner.processes().map((each) => processInfo(each, parts.clock.now())),
    upstreams: async () => parts.broker.upstreams().map(upstreamInfo),
    settings: async () => ({ ...parts.settings, items: [...parts.settings.items] }),
  };
}
