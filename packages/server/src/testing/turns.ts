import type { LogEventBody, RunResult } from '@sallyport/protocol';
import type { AcceptTurn, Profile, TurnEnd } from '../engine/ports.ts';

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
    request: { prompt: 'hello' },
    at: 1_700_000_000_000,
    events,
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

export const anEnd: TurnEnd = { state: 'completed', at: 1_700_000_009_000, result, code: null };
