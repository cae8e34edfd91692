import type { LogEventBody } from '@sallyport/protocol';
import type { Approval, AuditEntry, TurnRef } from './ports.ts';
import { canonicalHash } from './tool-inputs.ts';

/** What every line of a turn names. */
export interface Stamp {
  /** The key that owns the conversation. */
  readonly actor: string;
  /** The configuration in force. */
  readonly configuration: string;
}

/**
 * The lines that the audit log gets with an event of a turn, in the same transaction: a tool never runs without its
 * own. Inputs are named by their hash.
 */
export function auditOf(ref: TurnRef, { actor, configuration }: Stamp, at: number, body: LogEventBody): AuditEntry[] {
  const line = (action: string, subject: string, details: AuditEntry['details']): AuditEntry[] => [
    {
      at,
      tenant: ref.tenant,
      actor,
      action,
      ref: { conversation: ref.conversation, turn: ref.turn },
      subject,
      details: { ...details, configuration },
    },
  ];
  if (body.type === 'tool_start') {
    const { tool_use_id: id, name: tool, input, decided_by } = body;
    return line('tool.start', id, { tool, input_hash: canonicalHash(input), decided_by });
  }
  if (body.type === 'tool_end') return line('tool.end', body.tool_use_id, { ok: body.ok });
  if (body.type === 'tool_denied')
    return line('tool.denied', body.tool_use_id, { tool: body.name, reason: body.reason });
  return [];
}

/** The line of a human's decision. */
export function auditOfDecision(
  approval: Approval,
  made: { readonly status: 'allowed' | 'denied'; readonly at: number; readonly by: string; readonly edited: boolean },
  configuration: string,
): AuditEntry {
  const { tenant, conversation, turn, toolUseId, id, tool, inputHash } = approval;
  return {
    at: made.at,
    tenant,
    actor: made.by,
    action: `approval.${made.status}`,
    ref: { conversation, turn },
    subject: id,
    details: { tool, tool_use_id: toolUseId, input_hash: inputHash, edited: made.edited, configuration },
  };
}
