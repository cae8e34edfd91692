import { z } from 'zod';
import { approval, approvalStatuses, type ApprovalStatus, type RequestedApproval } from './approval-shapes.ts';
import { runResult, type RunResult } from './shapes.ts';

/**
 * The durable events of a conversation's log. Text deltas are not among them: each text or thinking block ends in one
 * event with its whole text, from which any missing part of the stream is computed.
 */
export type LogEventBody =
  | { readonly type: 'user_message'; readonly text: string; readonly message_uuid: string }
  | { readonly type: 'text'; readonly message_id: string; readonly text: string }
  | { readonly type: 'thinking'; readonly message_id: string; readonly thinking: string }
  | {
      readonly type: 'tool_start';
      readonly tool_use_id: string;
      /** The model's message that made the call; null when it could not be told. */
      readonly message_id: string | null;
      readonly name: string;
      readonly input: unknown;
      /** Which rule or human let the tool run. */
      readonly decided_by: string;
    }
  | { readonly type: 'tool_end'; readonly tool_use_id: string; readonly ok: boolean; readonly summary: string }
  | { readonly type: 'tool_denied'; readonly tool_use_id: string; readonly name: string; readonly reason: string }
  /** A call waits for a human. */
  | ({ readonly type: 'approval_requested' } & RequestedApproval)
  | {
      readonly type: 'approval_decided';
      readonly approval_id: string;
      readonly tool_use_id: string;
      readonly status: Exclude<ApprovalStatus, 'pending'>;
      readonly decided_by: string;
      readonly message: string | null;
    }
  | { readonly type: 'retry'; readonly attempt: number; readonly reason: string }
  /** What was streamed since the previous event of another type than a delta is withdrawn. */
  | { readonly type: 'restart' }
  | { readonly type: 'result'; readonly result: RunResult; readonly code: string | null };

export type LogEventType = LogEventBody['type'];

/** A durable event with its place in the log. `seq` starts at 1 and has no gaps within a conversation. */
export interface LogEvent {
  readonly seq: number;
  readonly turn: string;
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly body: LogEventBody;
}

/** A piece of a block that is still open. Lives in memory only. */
export interface Delta {
  readonly block: 'text' | 'thinking';
  /** UTF-16 units of the block before this piece. */
  readonly offset: number;
  readonly text: string;
}

/** Where a turn stands that waits for a process, as `place` in the line, or has one now. Lives in memory only. */
export type TurnStatus = { readonly status: 'queued'; readonly place: number } | { readonly status: 'running' };

const wire = {
  content: z.string(),
  role: z.enum(['user', 'assistant', 'system']),
  tools_used: z.array(z.string()),
  is_complete: z.boolean(),
  error: z.string().nullable(),
};

const event = <T extends string, S extends z.ZodRawShape>(type: T, shape: S) =>
  z.object({ ...wire, type: z.literal(type), ...shape });

/** `ClaudeStreamResponse`: one event on SSE and WebSocket. */
export const streamEvent = z
  .discriminatedUnion('type', [
    event('text_delta', {}),
    event('thinking_delta', { thinking: z.string() }),
    event('user_message', {}),
    event('tool_start', { tool_use_id: z.string(), name: z.string(), input: z.unknown() }),
    event('tool_end', { tool_use_id: z.string(), ok: z.boolean(), summary: z.string() }),
    event('approval_requested', { approval }),
    event('question', { approval }),
    event('approval_decided', {
      approval_id: z.string(),
      tool_use_id: z.string(),
      status: z.enum(approvalStatuses).exclude(['pending']),
      decided_by: z.string(),
    }),
    event('status', {
      status: z.string(),
      tool_use_id: z.string().optional(),
      name: z.string().optional(),
      reason: z.string().optional(),
      place: z.int().optional(),
    }),
    event('retry', { attempt: z.int(), reason: z.string() }),
    event('restart', {}),
    event('result', { ...runResult.omit({ error: true, tools_used: true }).shape, code: z.string().nullable() }),
  ])
  .meta({ id: 'ClaudeStreamResponse' });
export type StreamEvent = z.output<typeof streamEvent>;
