import { z } from 'zod';
import { approval } from './approval-shapes.ts';
import type { Bounds } from './bounds.ts';
import { bounded, claudeMessage, relativePath, runResult, timestamp } from './shapes.ts';

/** Ids of conversations that clients may choose. */
const chosenId = z
  .string()
  .regex(/^[A-Za-z0-9._:-]{1,100}$/u, { error: 'must be 1 to 100 letters, digits, ".", "_", ":" or "-"' })
  .refine((id) => id !== '.' && id !== '..', { error: 'must not be "." or ".."' });

export const startQuery = z.strictObject({
  session_id: chosenId.optional().describe('Id of the conversation; the service makes one where it is not given.'),
});
export const conversationPath = z.strictObject({ session_id: z.string().min(1).max(100) });

export const forkRequest = z
  .strictObject({
    session_id: chosenId.nullish().describe('Id of the new conversation; the service makes one where it is not given.'),
  })
  .meta({ id: 'ForkRequest' });

/** `ConversationRequest` under the given bounds. */
export function continueRequest(bounds: Bounds) {
  return z
    .strictObject({
      session_id: z.string().min(1).max(100).describe('The id of the path, once more.'),
      message: bounded(1, bounds.messageChars).describe('What Claude is told.'),
    })
    .meta({ id: 'ConversationRequest' });
}

export const conversationStarted = runResult
  .extend({
    messages: z.array(claudeMessage).describe("What the turn added, the user's own message first."),
    message_count: z.int().describe('Number of `messages`.'),
  })
  .meta({ id: 'ConversationStarted' });

export const conversationContinued = runResult
  .extend({
    new_messages: z.array(claudeMessage).describe("What the turn added, the user's own message first."),
    total_messages: z.int().describe('Number of messages of the whole history.'),
  })
  .meta({ id: 'ConversationContinued' });

/** What is told of a turn that goes on, as it waits for a human. */
export const conversationWaiting = z
  .object({
    session_id: z.string(),
    status: z.literal('waiting'),
    stop_reason: z.literal('waiting'),
    success: z.literal(false),
    approvals: z.array(approval).describe('Those that are pending.'),
  })
  .meta({ id: 'ConversationWaiting' });
export type ConversationWaiting = z.output<typeof conversationWaiting>;

/** `query`: of a one-shot; `job`: of a job. */
export const conversationKinds = ['query', 'conversation', 'job'] as const;
export type ConversationKind = (typeof conversationKinds)[number];

export const conversationStatuses = ['idle', 'running', 'waiting', 'ended'] as const;
export type ConversationStatus = (typeof conversationStatuses)[number];

export const conversationSummary = z
  .object({
    session_id: z.string(),
    kind: z.enum(conversationKinds),
    status: z.enum(conversationStatuses),
    created_at: timestamp,
    last_message_time: timestamp.describe('Time of the last event.'),
    expires_at: timestamp.describe('When it ends by itself if nothing more is said.'),
    permission_mode: z.string(),
    model: z.string(),
    metadata: z.record(z.string(), z.string()),
  })
  .meta({ id: 'ConversationSummary' });
export type ConversationSummary = z.output<typeof conversationSummary>;

export const conversationInfo = conversationSummary
  .extend({
    exists: z.literal(true),
    message_count: z.int().describe('Number of messages of the whole history.'),
    tools_used: z.array(z.string()),
    tokens_used: z.int(),
    cost_usd: z.number(),
  })
  .meta({ id: 'ConversationInfo' });
export type ConversationInfo = z.output<typeof conversationInfo>;

const digits = (min: number, max: number, preset: number) =>
  z
    .string()
    .regex(/^\d{1,6}$/u, { error: 'must be a whole number' })
    .transform(Number)
    .pipe(z.int().min(min).max(max))
    .default(preset);

/** Which page of a list is wanted. */
export const pageQuery = z.strictObject({
  cursor: z.string().max(500).optional().describe('`next_cursor` of the page before.'),
  limit: digits(1, 200, 50).describe('Most items of a page.'),
});
export const listQuery = pageQuery.extend({
  status: z.enum(conversationStatuses).optional(),
  kind: z.enum(conversationKinds).default('conversation'),
});
export const eventsQuery = z.strictObject({
  after: z
    .string()
    .max(100)
    .optional()
    .describe('A cursor; the events after it are sent. `Last-Event-ID` counts over it.'),
  follow: z.enum(['true', 'false']).default('true').describe('`false`: ends with `[DONE]` once all there is was sent.'),
});
export const conversationList = z
  .object({ items: z.array(conversationSummary), next_cursor: z.string().nullable() })
  .meta({ id: 'ConversationList' });
export const messageList = z
  .object({
    items: z.array(claudeMessage),
    next_cursor: z.null(),
  })
  .meta({ id: 'MessageList' });

/** What a conversation changed. */
export const conversationDiff = z
  .object({
    session_id: z.string(),
    changes: z.string().nullable().describe('Unified diff of text files, against how the conversation found them.'),
    changes_truncated: z.boolean().describe('True when the diff leaves out something that changed.'),
    changed_paths: z.array(z.string()),
  })
  .meta({ id: 'ConversationDiff' });
export type ConversationDiff = z.output<typeof conversationDiff>;

export const filePath = conversationPath.extend({
  path: relativePath.describe('Relative to the workspace. Its slashes may be sent as they are.'),
});
export const fileList = z
  .object({
    items: z.array(
      z.object({
        path: z.string().describe('Relative to the workspace.'),
        size: z.int().describe('Bytes.'),
        modified_at: timestamp,
      }),
    ),
    more: z.boolean().describe('True when there are more files than are listed.'),
    next_cursor: z.null(),
  })
  .meta({ id: 'FileList' });
