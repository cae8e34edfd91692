import type { ApprovalInfo, ConversationInfo, ConversationSummary, RunResult } from '@sallyport/protocol';

/** What the test engine shows. */

/** An approval that is pending. */
export const approval: ApprovalInfo = {
  approval_id: 'appr-1',
  session_id: 'conv-1',
  turn_id: 'turn-1',
  kind: 'tool',
  tool: 'Write',
  tool_use_id: 'toolu_1',
  input: { file_path: '/workspace/a.txt', content: 'a' },
  diff: null,
  reason: 'it changes a file',
  status: 'pending',
  created_at: '2030-01-01T00:00:00.000Z',
  expires_at: '2030-01-01T01:00:00.000Z',
  decided_at: null,
  decided_by: null,
};

/** The one conversation that the test engine shows. */
export const summary: ConversationSummary = {
  session_id: 'conv-1',
  kind: 'conversation',
  status: 'idle',
  created_at: '2030-01-01T00:00:00.000Z',
  last_message_time: '2030-01-01T00:00:00.000Z',
  expires_at: '2030-01-01T01:00:00.000Z',
  permission_mode: 'askForEdits',
  model: 'test-model',
  metadata: {},
};

export const info: ConversationInfo = {
  ...summary,
  exists: true,
  message_count: 2,
  tools_used: [],
  tokens_used: 3,
  cost_usd: 0.01,
};

export function runResult(changes: Partial<RunResult> = {}): RunResult {
  return {
    success: true,
    error: null,
    execution_time: 0.5,
    tokens_used: 3,
    request_id: 'req-1',
    session_id: 'conv-1',
    model: 'test-model',
    stop_reason: 'end_turn',
    usage: { input_tokens: 1, output_tokens: 2, cache_read_tokens: 0, cache_write_tokens: 0 },
    cost_usd: 0.01,
    structured_output: null,
    tools_used: [],
    permission_denials: [],
    changes: null,
    changes_truncated: false,
    changed_paths: [],
    cached: false,
    ...changes,
  };
}
