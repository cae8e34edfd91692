import { z } from 'zod';
import type { Bounds } from './bounds.ts';
import {
  continueRequest,
  conversationContinued,
  conversationDiff,
  conversationInfo,
  conversationList,
  conversationPath,
  conversationStarted,
  conversationWaiting,
  eventsQuery,
  fileList,
  filePath,
  forkRequest,
  listQuery,
  messageList,
  startQuery,
} from './conversation-shapes.ts';
import { streamEvent } from './events.ts';
import { attachment, json, runErrors, type Operation } from './operation.ts';
import { queryRequest } from './shapes.ts';

const base = '/api/claude/conversation';
const unseen = ['conversation_not_found', 'gone'] as const;

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
    errors: unseen,
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
    errors: unseen,
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
    uncounted: true,
    takesTicket: true,
    response: { status: 200, type: 'text/event-stream', schema: streamEvent, text: 'The events.' },
    errors: [...unseen, 'bad_cursor'],
  },
} as const satisfies Record<string, Operation>;

const workspace = {
  conversationDiff: {
    id: 'conversationDiff',
    method: 'GET',
    path: `${base}/{session_id}/diff`,
    summary: 'Gives what a conversation changed',
    description: 'Of all its turns together, as the last one left it.',
    right: 'read',
    params: conversationPath,
    response: json(conversationDiff, 'What it changed.'),
    errors: unseen,
  },
  conversationFiles: {
    id: 'conversationFiles',
    method: 'GET',
    path: `${base}/{session_id}/files`,
    summary: 'Lists the files of the workspace',
    description: 'By path, as the last turn left them. `more` says that the list is not the whole.',
    right: 'read',
    params: conversationPath,
    response: json(fileList, 'The files.'),
    errors: unseen,
  },
  conversationFile: {
    id: 'conversationFile',
    method: 'GET',
    path: `${base}/{session_id}/files/{path...}`,
    summary: 'Gives a file of the workspace',
    description: 'As an attachment, whatever it holds.',
    right: 'read',
    params: filePath,
    response: attachment('application/octet-stream', 'The file.'),
    errors: [...unseen, 'file_not_found'],
  },
  conversationArchive: {
    id: 'conversationArchive',
    method: 'GET',
    path: `${base}/{session_id}/files.zip`,
    summary: 'Gives the files of the workspace as a zip archive',
    description:
      'At most 10000 files and 512 MiB. A file that goes while the archive is made is left out. An archive that breaks off cannot be opened.',
    right: 'read',
    params: conversationPath,
    response: attachment('application/zip', 'The archive.'),
    errors: [...unseen, 'too_many_files'],
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
    errors: unseen,
  },
  forkConversation: {
    id: 'forkConversation',
    method: 'POST',
    path: `${base}/{session_id}/fork`,
    summary: 'Makes a new conversation with the same past',
    description:
      "History, transcript and the service's own workspace are copied; a `project_path` is used by both. The new conversation belongs to the key that asks.",
    right: 'run',
    params: conversationPath,
    body: forkRequest,
    response: json(conversationInfo, 'How the new conversation stands.'),
    errors: [...unseen, 'conversation_busy', 'conversation_exists', 'storage_full'],
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
    errors: unseen,
  },
} as const satisfies Record<string, Operation>;

const waiting = {
  status: 202,
  text: 'A human is awaited, as an approval is pending. The turn goes on; its events can be read.',
  schema: conversationWaiting,
} as const;

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
      startsWork: true,
      response: json(conversationStarted, 'The first turn has ended.'),
      elseStatus: waiting,
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
      startsWork: true,
      response: json(conversationContinued, 'The turn has ended.'),
      elseStatus: waiting,
      errors: [...unseen, 'conversation_busy', 'conversation_ended', ...runErrors],
    },
    ...reading,
    ...workspace,
    ...changing,
  } as const satisfies Record<string, Operation>;
}
