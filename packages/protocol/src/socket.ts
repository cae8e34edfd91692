import { z } from 'zod';
import { approvalDecision } from './approval-shapes.ts';
import type { Bounds } from './bounds.ts';
import { continueRequest, startQuery } from './conversation-shapes.ts';
import { formatCursor } from './cursor.ts';
import { errorCodes } from './errors.ts';
import { streamEvent, type StreamEvent } from './events.ts';
import type { Right } from './operation.ts';
import { queryRequest, validationIssue } from './shapes.ts';
import type { StreamItem } from './stream.ts';

/** The subprotocol of the WebSocket. */
export const socketProtocol = 'sallyport';
/** A client that can send no header offers its ticket as a subprotocol of this beginning, beside `socketProtocol`. */
export const socketTicketPrefix = 'sallyport.ticket.';

/** The caller's own label of a connection. */
export const connectionPath = z.strictObject({
  connection_id: z
    .string()
    .regex(/^[A-Za-z0-9._:-]{1,100}$/u, { error: 'must be 1 to 100 letters, digits, ".", "_", ":" or "-"' }),
});

const named = z.string().min(1).max(100);
/** Where it is not given: the conversation that the socket started, continued or resumed last. */
const current = named.nullish();

/** The frames of clients under the given bounds, by their `type`. */
export function socketFrames(bounds: Bounds) {
  const message = z.strictObject({ session_id: current });
  return {
    start_conversation: queryRequest(bounds).safeExtend({
      type: z.literal('start_conversation'),
      session_id: startQuery.shape.session_id.unwrap().nullish(),
      max_turns: z.int().min(1).max(bounds.maxTurns).default(Math.min(5, bounds.maxTurns)),
    }),
    send_message: message.extend({
      type: z.literal('send_message'),
      message: continueRequest(bounds).shape.message,
    }),
    end_conversation: message.extend({ type: z.literal('end_conversation') }),
    resume: z.strictObject({
      type: z.literal('resume'),
      session_id: named,
      after: z.string().max(100).nullish().describe('A cursor; the events after it are sent, else all.'),
    }),
    interrupt: message.extend({ type: z.literal('interrupt') }),
    approval: approvalDecision.extend({ type: z.literal('approval'), approval_id: named }),
    answer: z.strictObject({
      type: z.literal('answer'),
      question_id: named.describe('The `approval_id` of the question.'),
      answers: approvalDecision.shape.answers.unwrap().unwrap(),
    }),
    ping: z.strictObject({ type: z.literal('ping') }),
  } as const;
}

export type SocketFrames = ReturnType<typeof socketFrames>;
export type SocketFrameType = keyof SocketFrames;
/** A frame of a client, parsed. */
export type SocketFrame = { readonly [K in SocketFrameType]: z.output<SocketFrames[K]> }[SocketFrameType];

/** The right that a key needs for each frame: that of the route which does the same. */
export const socketRights: Readonly<Record<SocketFrameType, Right | null>> = {
  start_conversation: 'run',
  send_message: 'run',
  end_conversation: 'run',
  resume: 'read',
  interrupt: 'run',
  approval: 'approve',
  answer: 'approve',
  ping: null,
};

type OnSocket<E extends StreamEvent> = E extends StreamEvent
  ? Omit<E, 'type'> & {
      readonly type: 'claude_response';
      readonly event_type: E['type'];
      readonly session_id: string;
      /** The cursor that continues after the event. */
      readonly seq: string;
    }
  : never;

/** An event of a conversation as a frame: as in SSE, but that its `type` is the frame's and its own is `event_type`. */
export type ClaudeResponse = OnSocket<StreamEvent>;

/** The frame of an event of a conversation. */
export function claudeResponse(sessionId: string, { cursor, event }: StreamItem): ClaudeResponse {
  const { type: event_type, ...rest } = event;
  const frame = { ...rest, type: 'claude_response', event_type, session_id: sessionId, seq: formatCursor(cursor) };
  return frame as ClaudeResponse;
}

const responses = streamEvent.options.map((option) =>
  z.strictObject({
    ...option.shape,
    type: z.literal('claude_response'),
    event_type: option.shape.type,
    session_id: z.string(),
    seq: z.string(),
  }),
);

/** The frames of the service. */
export const serverFrame = z.union([
  z.discriminatedUnion('type', [
    z.strictObject({ type: z.literal('conversation_started'), session_id: z.string() }),
    z.strictObject({
      type: z.literal('conversation_ended'),
      session_id: z.string().nullable().describe('Null: there was none to end.'),
    }),
    z.strictObject({ type: z.literal('pong') }),
    z.strictObject({
      type: z.literal('going_away'),
      cursors: z
        .record(z.string(), z.string().nullable())
        .describe('For each conversation the socket followed where to go on; null: from the beginning.'),
    }),
    z.strictObject({
      type: z.literal('error'),
      error: z.string(),
      code: z.enum(errorCodes),
      request_id: z.string(),
      retryable: z.boolean(),
      in_reply_to: z
        .string()
        .nullable()
        .describe('`type` of the frame that was refused; null when it could not be told.'),
      session_id: z.string().nullable().describe('The conversation it is about; null when it could not be told.'),
      issues: z.array(validationIssue).optional().describe('Which fields are wrong, with `validation_failed`.'),
      retry_after: z.int().optional().describe('Seconds after which the same frame can succeed.'),
    }),
  ]),
  z.union(responses) as unknown as z.ZodType<ClaudeResponse>,
]);
export type ServerFrame = z.output<typeof serverFrame>;
