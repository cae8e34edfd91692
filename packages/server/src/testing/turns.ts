import type { LogEventBody, RunResult } from '@sallyport/protocol';
import type {
  AcceptNextTurn,
  AcceptTurn,
  Approval,
  IdempotencyClaim,
  Profile,
  TurnEnd,
  TurnRef,
} from '../engine/ports.ts';

const profile: Profile = {
  tenant: 'default',
  projectPath: null,
  access: 'rw',
  permissionMode: 'readOnly',
  tools: ['Read'],
  model: 'some-model',
  effort: null,
  systemPrompt: null,
  outputSchema: null,
};

/** A turn to accept, the first of the conversation. Session and turn are named after it. */
export function anAccept(conversation: string, tenant = 'default', events: readonly LogEventBody[] = []): AcceptTurn {
  return {
    conversation: {
      tenant,
      id: conversation,
      key: 'key-1',
      kind: 'query',
      profile: { ...profile, tenant },
      limits: { maxTurns: 3, timeoutSeconds: 60, budgetUsd: null, instructions: false },
      sdkSession: `session of ${conversation}`,
      metadata: { team: 'a' },
      createdAt: 1_700_000_000_000,
    },
    turn: `turn of ${conversation}`,
    node: 'node-1',
    request: { prompt: 'hello' },
    at: 1_700_000_000_000,
    events,
    claim: null,
  };
}

export const aText = (text: string): LogEventBody => ({ type: 'text', message_id: 'message-1', text });

export const aToolStart = (input: unknown): LogEventBody => ({
  type: 'tool_start',
  message_id: 'message-1',
  tool_use_id: 'tool-1',
  name: 'Read',
  input,
  decided_by: 'rule',
});

const result: RunResult = {
  success: true,
  error: null,
  execution_time: 1.5,
  tokens_used: 10,
  request_id: 'req-1',
  session_id: 'conv-1',
  model: 'some-model',
  stop_reason: 'end_turn',
  usage: { input_tokens: 5, output_tokens: 5, cache_read_tokens: 0, cache_write_tokens: 0 },
  cost_usd: 0.25,
  structured_output: null,
  tools_used: [],
  permission_denials: [],
  changes: null,
  changes_truncated: false,
  changed_paths: [],
  cached: false,
};

/** The next turn of a conversation, with one text that is its name. */
export const aNext = (conversation: string, turn: string, tenant = 'default'): AcceptNextTurn => ({
  tenant,
  conversation,
  turn,
  node: 'node-1',
  request: { message: turn },
  at: 1_700_000_100_000,
  events: [aText(turn)],
  claim: null,
});

/** A claim that lasts beyond `anAccept` and `aNext`. */
export const aClaim = (idempotencyKey: string, key = 'key-1'): IdempotencyClaim => ({
  key,
  idempotencyKey,
  hash: `hash of ${idempotencyKey}`,
  expiresAt: 1_700_000_900_000,
});

export const anEnd: TurnEnd = {
  state: 'completed',
  at: 1_700_000_009_000,
  result,
  code: null,
  nothingRan: false,
  files: [],
};

/** A pending approval of a turn, of the call `call <name>`, with the event of its request. */
export function anApproval(ref: TurnRef, name: string): [Approval, LogEventBody] {
  const { tenant, conversation, turn } = ref;
  const call = {
    kind: 'tool',
    tool: 'Edit',
    input: { file: name },
    diff: '--- a\n+++ b\n',
    reason: 'it writes',
  } as const;
  const approval: Approval = {
    tenant,
    id: `approval ${name}`,
    conversation,
    turn,
    toolUseId: `call ${name}`,
    key: 'key-1',
    ...call,
    inputHash: `hash of ${name}`,
    status: 'pending',
    createdAt: 1_700_000_001_000,
    expiresAt: 1_700_000_005_000,
    decidedAt: null,
    decidedBy: null,
    decision: null,
  };
  const event: LogEventBody = {
    type: 'approval_requested',
    approval_id: approval.id,
    session_id: conversation,
    turn_id: turn,
    tool_use_id: approval.toolUseId,
    created_at: new Date(approval.createdAt).toISOString(),
    expires_at: new Date(approval.expiresAt).toISOString(),
    ...call,
  };
  return [approval, event];
}
