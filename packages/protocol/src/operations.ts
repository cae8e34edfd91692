import { z } from 'zod';
import { adminOperations } from './admin.ts';
import { approvalOperations } from './approvals.ts';
import type { Bounds } from './bounds.ts';
import { conversationOperations } from './conversations.ts';
import { streamEvent } from './events.ts';
import { jobOperations } from './jobs.ts';
import { json, runErrors, type Operation } from './operation.ts';
import { webhookOperations } from './webhooks.ts';
import { claudeHealth, models, queryRequest, queryResponse, readiness, serviceHealth, ticket } from './shapes.ts';

const serviceOperations = {
  root: {
    id: 'root',
    method: 'GET',
    path: '/',
    summary: 'Names the service',
    description: 'A browser is sent to the documentation.',
    right: 'public',
    response: json(z.object({ message: z.string() }), 'The name of the service.'),
    errors: [],
  },
  health: {
    id: 'health',
    method: 'GET',
    path: '/health',
    summary: 'Says that the process answers',
    description: 'Does no work. `/readyz` says whether the service can run queries.',
    right: 'public',
    response: json(serviceHealth, 'The process answers.'),
    errors: [],
  },
  livez: {
    id: 'livez',
    method: 'GET',
    path: '/livez',
    summary: 'Says that the event loop turns',
    description: 'For a liveness probe.',
    right: 'public',
    response: json(z.object({ status: z.literal('alive') }), 'The event loop turns.'),
    errors: [],
  },
  readyz: {
    id: 'readyz',
    method: 'GET',
    path: '/readyz',
    summary: 'Says whether queries can run',
    description: 'For a readiness probe. 503 names the parts that fail in `failing`. Never calls the model.',
    right: 'public',
    response: json(readiness, 'Queries can run.'),
    elseStatus: { status: 503, text: 'Queries cannot run; `failing` names why.' },
    errors: [],
  },
} as const satisfies Record<string, Operation>;

const accessOperations = {
  claudeHealth: {
    id: 'claudeHealth',
    method: 'GET',
    path: '/api/claude/health',
    summary: 'Says whether Claude Code and the model are available',
    description: "From the last known state of the service's parts. Never calls the model.",
    right: 'read',
    response: json(claudeHealth, 'Claude Code can be used, perhaps only in part.'),
    elseStatus: { status: 503, text: 'Claude Code cannot be used: `unhealthy`.' },
    errors: [],
  },
  models: {
    id: 'models',
    method: 'GET',
    path: '/api/claude/models',
    summary: 'Lists the models this key may use',
    description: '`default` is the one a query gets that names none.',
    right: 'read',
    response: json(models, 'The models.'),
    errors: [],
  },
  wsTicket: {
    id: 'wsTicket',
    method: 'POST',
    path: '/api/claude/ws-ticket',
    summary: 'Gives a ticket that stands for the key once',
    description:
      'For a browser, which cannot send a key with a WebSocket or an EventSource: it opens one WebSocket, or the events of a conversation, as `?ticket=`.',
    right: 'run',
    response: json(ticket, 'The ticket.'),
    errors: ['storage_full'],
  },
} as const satisfies Record<string, Operation>;

/** Every route of the service, under the given bounds. Routing, validation, OpenAPI and docs are made from this table. */
export function operations(bounds: Bounds) {
  const request = queryRequest(bounds);
  return {
    ...serviceOperations,
    query: {
      id: 'query',
      method: 'POST',
      path: '/api/claude/query',
      summary: 'Runs one query and answers when it has ended',
      description:
        'The run stops when the client leaves, unless it has an `Idempotency-Key`. A run cut by turns, budget or timeout is a 200 with `success: false`.',
      right: 'run',
      body: request,
      startsWork: true,
      response: json(queryResponse, 'The run has ended.'),
      errors: runErrors,
    },
    stream: {
      id: 'stream',
      method: 'POST',
      path: '/api/claude/stream',
      summary: 'Runs one query and streams what happens',
      description:
        'Server-sent events, each with `id: <cursor>` and one JSON object as `data`; the last line is `data: [DONE]`. The run stops when the client leaves, unless it has an `Idempotency-Key`. What fails before the first event uses a status code, what fails later is an event with `error` and `is_complete: true`.',
      right: 'run',
      body: request,
      startsWork: true,
      response: { status: 200, type: 'text/event-stream', schema: streamEvent, text: 'The events of the run.' },
      errors: runErrors,
    },
    ...conversationOperations(bounds),
    ...approvalOperations,
    ...jobOperations(bounds),
    ...adminOperations,
    ...webhookOperations,
    ...accessOperations,
  } as const satisfies Record<string, Operation>;
}

export type OperationId = keyof ReturnType<typeof operations>;
