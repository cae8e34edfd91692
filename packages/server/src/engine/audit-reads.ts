import type { AuditLine } from '@sallyport/protocol';
import { isoTime } from './clock.ts';
import type { Engine, EngineParts } from './engine.ts';

/** The audit log as clients read it. An admin reads all lines, others those of their tenant. */
export function auditReads(parts: EngineParts): Pick<Engine, 'audit'> {
  return {
    async audit({ role, tenant }, { after, limit }) {
      const rows = await parts.audit.read(role === 'admin' ? null : tenant, after, limit);
      const items: AuditLine[] = rows.map((row) => ({ ...row, details: { ...row.details }, time: isoTime(row.at) }));
      const last = rows.length === limit ? rows.at(-1) : undefined;
      return { items, next_cursor: last ? String(last.seq) : null };
    },
  };
}
