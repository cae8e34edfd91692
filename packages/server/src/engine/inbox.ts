import type { ApprovalDesk } from './approval-desk.ts';
import { approvalInfo, decisionOf } from './approvals.ts';
import { auditOfDecision } from './audit.ts';
import { fromCursor, ownKey, pageOf } from './conversations.ts';
import type { Engine, EngineParts } from './engine.ts';
import { SallyportError } from './errors.ts';
import type { Approval } from './ports.ts';
import type { Principal } from './principal.ts';

async function visible(parts: EngineParts, principal: Principal, id: string): Promise<Approval> {
  const found = await parts.approvals.get(principal.tenant, id);
  const own = ownKey(principal);
  if (found === null || (own !== null && found.key !== own)) throw new SallyportError('approval_not_found');
  return found;
}

/** The inbox of approvals: what waits for a human, and the human's decisions. */
export function inbox(parts: EngineParts, desk: ApprovalDesk): Pick<Engine, 'approvals' | 'approval' | 'decide'> {
  return {
    async approvals(principal, { cursor, limit, status }) {
      const rows = await parts.approvals.list({
        tenant: principal.tenant,
        key: ownKey(principal),
        status: status ?? null,
        before: cursor === undefined ? null : fromCursor(cursor),
        limit,
      });
      return pageOf(rows, limit, approvalInfo);
    },
    approval: async (principal, id) => approvalInfo(await visible(parts, principal, id)),
    async decide(principal, id, request) {
      const approval = await visible(parts, principal, id);
      if (approval.status !== 'pending') throw new SallyportError('already_decided');
      const decision = decisionOf(approval, request);
      const status = request.decision === 'allow' ? ('allowed' as const) : ('denied' as const);
      const made = { status, at: parts.clock.now(), by: principal.key };
      const audit = auditOfDecision(approval, { ...made, edited: decision.input !== null }, parts.configuration);
      const decided = await parts.approvals.decide(principal.tenant, id, { ...made, decision }, audit);
      if (decided === null) throw new SallyportError('already_decided');
      parts.logger.info({ approval: id, status: decided.status, by: principal.key }, 'approval decided');
      desk.nudge(decided);
      return approvalInfo(decided);
    },
  };
}
