import { z } from 'zod';
import type { ErrorCode } from './errors.ts';

/** What a key must be allowed for a route to answer it. */
export const rights = ['run', 'read', 'approve', 'audit', 'manage'] as const;
export type Right = (typeof rights)[number];

/** One route: what it takes, what it gives, and which right it needs. */
export interface Operation {
  readonly id: string;
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** Path with parameters as `{name}`. The last part may be `{name...}`, which takes slashes too. */
  readonly path: string;
  readonly summary: string;
  readonly description: string;
  /** The right a key needs, or `public` for the routes that take no key. */
  readonly right: Right | 'public';
  readonly body?: z.ZodType;
  /** Parameters of the path. Every name of it is one of them. */
  readonly params?: z.ZodObject;
  /** Parameters after `?`. */
  readonly query?: z.ZodObject;
  /** True: answers as server-sent events (of `streamEvent`) when the client asks for `text/event-stream`. */
  readonly alsoStreams?: true;
  /** True: starts work, and takes an `Idempotency-Key`. */
  readonly startsWork?: true;
  /** True: does not count as a request of its key. A failed authentication counts all the same. */
  readonly uncounted?: true;
  /** True: a ticket as `?ticket=` is taken instead of a key. */
  readonly takesTicket?: true;
  /** `text/event-stream` responses give the schema of one event. */
  readonly response: {
    readonly status: number;
    readonly type: string;
    readonly schema: z.ZodType;
    readonly text: string;
  };
  /** Another status and what it says. Without a schema it carries the same body. */
  readonly elseStatus?: { readonly status: number; readonly text: string; readonly schema?: z.ZodType };
  /** Codes this route can answer with, besides those every route can. */
  readonly errors: readonly ErrorCode[];
}

export const runErrors = [
  'mode_not_allowed',
  'tool_not_allowed',
  'model_not_allowed',
  'path_not_allowed',
  'stopped',
  'budget_exhausted',
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
  'idempotency_in_progress',
  'idempotency_key_reused',
] as const satisfies readonly ErrorCode[];

export const json = (schema: z.ZodType, text: string, status = 200) => ({
  status,
  type: 'application/json',
  schema,
  text,
});

/** An answer that is a file. */
export const attachment = (type: string, text: string) => ({
  status: 200,
  type,
  schema: z.string().meta({ format: 'binary' }),
  text,
});
