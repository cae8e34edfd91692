import type { AuditLine } from '@sallyport/protocol';
import type { Admin, AdminParts } from './admin.ts';
import { isoTime } from './clock.ts';
import type { AuditRow } from './ports.ts';
import type { Principal } from './principal.ts';

const exportPage = 500;

const lineOf = (row: AuditRow): AuditLine => ({ ...row, details: { ...row.details }, time: isoTime(row.at) });

/** Whose lines the principal reads: an admin all, others those of their tenant. */
const scopeOf = ({ role, tenant }: Principal): string | null => (role === 'admin' ? null : tenant);

/** The part of `Admin` that reads the audit log. */
export function auditReads({ audit }: Pick<AdminParts, 'audit'>): Pick<Admin, 'audit' | 'exportAudit'> {
  return {
    async audit(principal, { after, limit }) {
      const rows = await audit.read(scopeOf(principal), after, limit);
      const last = rows.length === limit ? rows.at(-1) : undefined;
      return { items: rows.map(lineOf), next_cursor: last ? String(last.seq) : null };
    },

    async *exportAudit(principal, after) {
      const end = await audit.last();
      for (let place = after; place < end;) {
        const rows = await audit.read(scopeOf(principal), place, exportPage);
        const lines = rows.filter(({ seq }) => seq <= end).map(lineOf);
        if (lines.length > 0) yield lines;
        place = lines.length < exportPage ? end : (lines.at(-1)?.seq ?? end);
      }
    },
  };
}
