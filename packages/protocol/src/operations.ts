import { z } from 'zod';
import type { Bounds } from './bounds.ts';
import type { ErrorCode } from './errors.ts';
import { streamEvent } from './events.ts';
import { claudeHealth, models, queryRequest, queryResponse, readiness, serviceHealth } from './shapes.ts';

/** What a key must be allowed for a route to answer it. */
export const rights = ['run', 'read'] as const;
export type Right = (typeof rights)[number];

/** One route: what it takes, what it gives, and which right it needs. */
export interface Operation {
  readonly id: string;
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** Path with parameters as `{name}`. */
  readonly path: string;
  readonly summary: string;
  readonly description: string;
  /** The right a key needs, or `public` for the routes that take no key. */
  readonly right: Right | 'public';
  readonly body?: z.ZodType;
  /** `text/event-stream` responses give the schema of one event. */
  readonly response: {
    readonly status: number;
    readonly type: string;
    readonly schema: z.ZodType;
    readonly text: string;
  };
  /** Another status that carries the same body, and what it says. */
  readonly elseStatus?: { readonly status: number; readonly text: string };
  /** Codes this route can answer with, besides those every route can. */
  readonly errors: readonly ErrorCode[];
}

const runErrors = [
  'tool_not_allowed',
  'model_not_allowed',
  'path_not_allowed',
  'workspace_not_accessible',
  'prompt_too_long',
  'agent_crashed',
  'upstream_error',
  'upstream_rejected',
  'upstream_model_not_found',
  'upstream_refused_credentials',
  'upstream_rate_limited',
  'upstream_overloaded',
  'upstream_timeout',
  'overloaded',
  'not_ready',
  'isolation_unavailable',
  'storage_full',
] as const satisfies readonly ErrorCode[];

const json = (schema: z.ZodType, text: string, status = 200) => ({ status, type: 'application/json', schema, text });

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
        'The run stops when the client leaves. A run cut by turns, budget or timeout is a 200 with `success: false`.',
      right: 'run',
      body: request,
      response: json(queryResponse, 'The run has ended.'),
      errors: runErrors,
    },
    stream: {
      id: 'stream',
      method: 'POST',
      path: '/api/claude/stream',
      summary: 'Runs one query and streams what happens',
      description:
        'Server-sent events, each with `id: <cursor>` and one JSON object as `data`; the last line is `data: [DONE]`. The run stops when the client leaves. What fails before the first event uses a status code, what fails later is an event with `error` and `is_complete: true`.',
      right: 'run',
      body: request,
      response: { status: 200, type: 'text/event-stream', schema: streamEvent, text: 'The events of the run.' },
      errors: runErrors,
    },
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
  } as const satisfies Record<string, Operation>;
}

export type OperationId = keyof ReturnType<typeof operations>;
