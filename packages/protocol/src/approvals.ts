import { z } from 'zod';
import { approval, approvalDecision, approvalStatuses } from './approval-shapes.ts';
import { pageQuery } from './conversation-shapes.ts';
import { json, type Operation } from './operation.ts';

const base = '/api/claude/approvals';

export const approvalPath = z.strictObject({ approval_id: z.string().min(1).max(100) });
export const approvalsQuery = pageQuery.extend({ status: z.enum(approvalStatuses).optional() });
export const approvalList = z
  .object({ items: z.array(approval), next_cursor: z.string().nullable() })
  .meta({ id: 'ApprovalList' });

/** A decision whose fields fit each other: another input, or answers, belong to `allow`. */
export const decisionRequest = approvalDecision.superRefine(({ decision, updated_input, answers }, context) => {
  const only = (field: 'updated_input' | 'answers', message: string) =>
    context.addIssue({ code: 'custom', path: [field], message });
  if (decision === 'deny' && updated_input) only('updated_input', 'needs the decision "allow"');
  if (decision === 'deny' && answers) only('answers', 'needs the decision "allow"');
  if (updated_input && answers) only('answers', 'cannot be combined with updated_input');
});

/** The routes of approvals. */
export const approvalOperations = {
  listApprovals: {
    id: 'listApprovals',
    method: 'GET',
    path: base,
    summary: 'Lists approvals, newest first',
    description:
      'Those of the conversations of the key; of the whole tenant for an operator or admin. `next_cursor` gives the next page.',
    right: 'read',
    query: approvalsQuery,
    response: json(approvalList, 'One page.'),
    errors: ['bad_cursor'],
  },
  approval: {
    id: 'approval',
    method: 'GET',
    path: `${base}/{approval_id}`,
    summary: 'Gives an approval',
    description: 'With what the tool will be called with, and what became of it.',
    right: 'read',
    params: approvalPath,
    response: json(approval, 'The approval.'),
    errors: ['approval_not_found'],
  },
  decideApproval: {
    id: 'decideApproval',
    method: 'POST',
    path: `${base}/{approval_id}`,
    summary: 'Decides an approval',
    description: 'Once. The turn goes on by itself. Without a decision before `expires_at` it is denied.',
    right: 'approve',
    params: approvalPath,
    body: decisionRequest,
    response: json(approval, 'It is decided.'),
    errors: ['approval_not_found', 'already_decided', 'storage_full'],
  },
} as const satisfies Record<string, Operation>;
