import { strictEqual } from 'node:assert/strict';
import { chainStart, verifyChain } from '../engine/audit-chain.ts';
import type { AuditEntry, AuditStore } from '../engine/ports.ts';

/** A line about the start of this tool call. */
export const anEntry = (subject: string, tenant = 'default'): AuditEntry => ({
  at: 1_700_000_000_000,
  tenant,
  actor: 'key-1',
  action: 'tool.start',
  ref: { conversation: 'c', turn: 't' },
  subject,
  details: { tool: 'Read', decidedBy: 'rule', batch: 1, sandboxed: true, rule: null },
});

/** What cannot be stored, whatever the database. */
export const unfitEntry: AuditEntry = { ...anEntry('unfit'), actor: null as unknown as string };

/** The subjects of all lines in order, once the chain fits and no place is missing. */
export async function auditSubjects(audit: AuditStore): Promise<(string | null)[]> {
  const rows = await audit.read(null, 0, 1_000_000);
  strictEqual(verifyChain(rows, chainStart), null);
  return rows.map(({ subject }) => subject);
}
