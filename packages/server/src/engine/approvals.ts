import type { ApprovalDecisionRequest, ApprovalInfo, LogEventBody, RequestedApproval } from '@sallyport/protocol';
import { isoTime } from './clock.ts';
import { SallyportError } from './errors.ts';
import { newId } from './ids.ts';
import type { Approval, ApprovalDecision, ToolCall, TurnRef } from './ports.ts';
import { answeredInput, canonicalHash, checkedInput, isQuestion, ruleOf } from './tool-inputs.ts';

/** What a new approval is made of. */
export interface Asked {
  readonly call: ToolCall;
  readonly ref: TurnRef;
  readonly key: string;
  readonly reason: string;
  readonly diff: string | null;
  readonly at: number;
  readonly ttlSeconds: number;
}

export function newApproval({ call, ref, key, reason, diff, at, ttlSeconds }: Asked): Approval {
  return {
    tenant: ref.tenant,
    id: newId('appr'),
    conversation: ref.conversation,
    turn: ref.turn,
    toolUseId: call.id,
    key,
    kind: isQuestion(call.name) ? 'question' : 'tool',
    tool: call.name,
    input: call.input,
    inputHash: canonicalHash(call.input),
    diff,
    reason,
    status: 'pending',
    createdAt: at,
    expiresAt: at + ttlSeconds * 1000,
    decidedAt: null,
    decidedBy: null,
    decision: null,
  };
}

const timeOrNull = (at: number | null): string | null => (at === null ? null : isoTime(at));

function requestedOf(approval: Approval): RequestedApproval {
  return {
    approval_id: approval.id,
    session_id: approval.conversation,
    turn_id: approval.turn,
    kind: approval.kind,
    tool: approval.tool,
    tool_use_id: approval.toolUseId,
    input: approval.input,
    diff: approval.diff,
    reason: approval.reason,
    created_at: isoTime(approval.createdAt),
    expires_at: isoTime(approval.expiresAt),
  };
}

/** What the log says of a new approval. */
export const requestedBody = (approval: Approval): LogEventBody => ({
  type: 'approval_requested',
  ...requestedOf(approval),
});

/** An approval as clients read it. */
export function approvalInfo(approval: Approval): ApprovalInfo {
  const { status, decidedAt, decidedBy } = approval;
  return { ...requestedOf(approval), status, decided_at: timeOrNull(decidedAt), decided_by: decidedBy };
}

/** What Claude is told of a call that was not allowed. */
export function toldToClaude({ status, decision, kind }: Approval): string {
  const what = kind === 'question' ? 'The user did not answer' : 'The user did not allow this call';
  if (status === 'denied') return decision?.message ? `${what} and said: ${decision.message}` : `${what}.`;
  if (status === 'expired') return 'Nobody answered in time.';
  return 'The run was stopped.';
}

const refuse = (field: string, msg: string): SallyportError =>
  new SallyportError('validation_failed', { issues: [{ loc: ['body', field], msg, type: 'value_error' }] });

function inputOf(approval: Approval, request: ApprovalDecisionRequest): Approval['input'] | null {
  const { updated_input: updated, answers } = request;
  if (request.decision === 'deny') {
    if (updated || answers) throw refuse(updated ? 'updated_input' : 'answers', 'goes with "allow" only');
    return null;
  }
  if (approval.kind === 'question') {
    if (updated) throw refuse('updated_input', 'a question is answered with answers');
    if (!answers) throw refuse('answers', 'a question is allowed by answering it');
    return answeredInput(approval.input, answers);
  }
  if (answers) throw refuse('answers', 'this is not a question');
  return updated ? checkedInput(approval.tool, updated) : null;
}

/** What is stored of a human's decision. Throws `validation_failed` when it does not fit the call. */
export function decisionOf(approval: Approval, request: ApprovalDecisionRequest): ApprovalDecision {
  const input = inputOf(approval, request);
  const remembers = request.decision === 'allow' && request.remember === 'conversation';
  const rule = remembers ? ruleOf(approval.tool, input ?? approval.input) : null;
  if (remembers && rule === null) throw refuse('remember', 'this call is asked every time');
  return { message: request.message ?? null, input, rule };
}
