import { z } from 'zod';
import type { Bounds } from './bounds.ts';
import {
  continueRequest,
  conversationContinued,
  conversationInfo,
  conversationList,
  conversationPath,
  conversationStarted,
  eventsQuery,
  listQuery,
  messageList,
  startQuery,
} from './conversation-shapes.ts';
import { streamEvent } from './events.ts';
import { json, runErrors, type Operation } from './operation.ts';
import { queryRequest } from './shapes.ts';

const base = '/api/claude/conversation';

const reading = {
  listConversations: {
    id: 'listConversations',
    method: 'GET',
    path: base,
    summary: 'Lists conversations, newest first',
    description: 'Those of the key; of the whole tenant for an operator or admin. `next_cursor` gives the next page.',
    right: 'read',
    query: listQuery,
    response: json(conversationList, 'One page.'),
    errors: ['bad_cursor'],
  },
  conversationInfo: {
    id: 'conversationInfo',
    method: 'GET',
    path: `${base}/{session_id}/info`,
    summary: 'Says how a conversation stands',
    description: 'An ended conversation can be read until its retention has passed.',
    right: 'read',
    params: conversationPath,
    response: json(conversationInfo, 'How it stands.'),
    errors: ['conversation_not_found'],
  },
  conversationMessages: {
    id: 'conversationMessages',
    method: 'GET',
    path: `${base}/{session_id}/messages`,
    summary: 'Gives the whole history',
    description: "The user's messages and one message per answer of the model.",
    right: 'read',
    params: conversationPath,
    response: json(messageList, 'The history.'),
    errors: ['conversation_not_found'],
  },
  conversationEvents: {
    id: 'conversationEvents',
    method: 'GET',
    path: `${base}/{session_id}/events`,
    summary: 'Follows a conversation',
    description:
      'Server-sent events of the whole log, or of what comes after a cursor (`Last-Event-ID` or `after`), the text of a running answer included; then live until the conversation ends. Each turn ends with `is_complete: true`. Leaving stops nothing.',
    right: 'read',
    params: conversationPath,
    query: eventsQuery,
    response: { status: 200, type: 'text/event-stream', schema: streamEvent, text: 'The events.' },
    errors: ['conversation_not_found', 'bad_cursor'],
  },
} as const satisfies Record<string, Operation>;

const changing = {
  interruptConversation: {
    id: 'interruptConversation',
    method: 'POST',
    path: `${base}/{session_id}/interrupt`,
    summary: 'Stops the running turn and keeps the conversation',
    description: 'Answers when the end of the turn is stored. `interrupted` is false when no turn was running.',
    right: 'run',
    params: conversationPath,
    response: json(z.object({ session_id: z.string(), interrupted: z.boolean() }), 'No turn is running any more.'),
    errors: ['conversation_not_found'],
  },
  deleteConversation: {
    id: 'deleteConversation',
    method: 'DELETE',
    path: `${base}/{session_id}`,
    summary: 'Deletes a conversation',
    description: 'Stops its running turn first. Its history, transcript and files are gone then.',
    right: 'run',
    params: conversationPath,
    response: json(z.object({ message: z.string() }), 'It is gone.'),
    errors: ['conversation_not_found'],
  },
} as const satisfies Record<string, Operation>;

/** The routes of conversations, under the given bounds. */
export function conversationOperations(bounds: Bounds) {
  return {
    startConversation: {
      id: 'startConversation',
      method: 'POST',
      path: `${base}/start`,
      summary: 'Starts a conversation with its first turn',
      description:
        'Later turns keep the settings of this request. The turn goes on when the client leaves; its events can be read.',
      right: 'run',
      query: startQuery,
      body: queryRequest(bounds),
      alsoStreams: true,
      response: json(conversationStarted, 'The first turn has ended.'),
      errors: ['conversation_exists', ...runErrors],
    },
    continueConversation: {
      id: 'continueConversation',
      method: 'POST',
      path: `${base}/{session_id}/continue`,
      summary: 'Says the next thing in a conversation',
      description: 'One turn at a time. The turn goes on when the client leaves; its events can be read.',
      right: 'run',
      params: conversationPath,
      body: continueRequest(bounds),
      alsoStreams: true,
      response: json(conversationContinued, 'The turn has ended.'),
      errors: ['conversation_not_found', 'conversation_busy', 'conversation_ended', ...runErrors],
    },
    ...reading,
    ...changing,
  } as const satisfies Record<string, Operation>;
}
