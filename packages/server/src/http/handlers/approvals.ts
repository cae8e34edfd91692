import type { Engine } from '../../engine/engine.ts';
import type { Handlers } from '../routes.ts';

/** The inbox of approvals. */
export function approvalHandlers(engine: Engine): Pick<Handlers, 'listApprovals' | 'approval' | 'decideApproval'> {
  return {
    listApprovals: ({ principal, query }) => engine.approvals(principal, query),
    approval: ({ principal, params }) => engine.approval(principal, params.approval_id),
    decideApproval: ({ principal, params, body }) => engine.decide(principal, params.approval_id, body),
  };
}
