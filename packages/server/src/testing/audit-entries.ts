import type { AuditEntry } from '../engine/ports.ts';

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
