import type { z } from 'zod';
import type { ErrorCode } from './errors.ts';

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
  /** Parameters of the path. Every `{name}` of it is one of them. */
  readonly params?: z.ZodObject;
  /** Parameters after `?`. */
  readonly query?: z.ZodObject;
  /** `text/event-stream` responses give the schema of one event. */
  /** True: answers as server-sent events (of `streamEvent`) when the client asks for `text/event-stream`. */
  readonly alsoStreams?: true;
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

export const runErrors = [
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

export const json = (schema: z.ZodType, text: string, status = 200) => ({
  status,
  type: 'application/json',
  schema,
  text,
});
