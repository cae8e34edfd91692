import { z } from 'zod';
import type { Bounds } from './bounds.ts';
import { permissionModes, toolAliases, type ToolName } from './tools.ts';

/** Counts Unicode characters, so that an emoji is one and bounds do not depend on the client's language. */
function characters(text: string): number {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}

/** `params.type` is the type of the issue in a 422 answer. */
export const bounded = (min: number, max: number) =>
  z
    .string()
    .refine((text) => characters(text) >= min, {
      error: `String should have at least ${min} character${min === 1 ? '' : 's'}`,
      params: { type: 'string_too_short' },
    })
    .refine((text) => characters(text) <= max, {
      error: `String should have at most ${max} characters`,
      params: { type: 'string_too_long' },
    })
    .refine((text) => text.isWellFormed(), wellFormed)
    .meta({ minLength: min, maxLength: max });

/** True when no text in JSON data, names included, holds half a character. */
export function isWellFormed(data: unknown): boolean {
  if (typeof data === 'string') return data.isWellFormed();
  if (typeof data !== 'object' || data === null) return true;
  return Object.entries(data).every(([name, value]) => name.isWellFormed() && isWellFormed(value));
}
export const wellFormed = { error: 'must be well-formed Unicode' };

const noControl = (text: string) => !/[\u0000-\u001f\u007f]/u.test(text);

/** A client may send `null` for "not given", as Python clients do. */
const optional = <T extends z.ZodType>(schema: T) =>
  schema.nullish().transform((value): NonNullable<z.output<T>> | undefined => value ?? undefined);

const path = z
  .string()
  .min(1)
  .max(4096)
  .refine(noControl, { error: 'must not contain control characters' })
  .refine((text) => text.isWellFormed(), wellFormed);

const bytesOf = (text: string): number => new TextEncoder().encode(text).length;

/** A path below the workspace: relative, without empty, `.` or `..` parts, and with names that a file can have. */
export const relativePath = path
  .refine(
    (text) => !text.startsWith('/') && text.split('/').every((part) => part !== '' && part !== '.' && part !== '..'),
    { error: 'must be a relative path without empty, "." or ".." parts' },
  )
  .refine((text) => text.split('/').every((part) => bytesOf(part) <= 255), {
    error: 'must have names of at most 255 bytes',
  });

const toolName = z
  .string()
  .refine((name) => Object.hasOwn(toolAliases, name), {
    error: `Input should be one of ${Object.keys(toolAliases).join(', ')}`,
    params: { type: 'enum' },
  })
  .transform((name): ToolName => toolAliases[name] as ToolName)
  .meta({ enum: Object.keys(toolAliases) });

export const effortLevels = ['low', 'medium', 'high'] as const;

const file = z.strictObject({
  path: relativePath.describe('Where the file goes, relative to the workspace.'),
  content: z
    .string()
    .refine((text) => text.isWellFormed(), wellFormed)
    .describe('The text of the file.'),
});

function noneBelowAnother(files: readonly { readonly path: string }[]): boolean {
  const paths = new Set(files.map((item) => item.path));
  return files.every(({ path: own }) => {
    const parts = own.split('/');
    return parts.every((_, count) => count === 0 || !paths.has(parts.slice(0, count).join('/')));
  });
}

const outputSchema = z
  .record(z.string(), z.unknown())
  .refine(isWellFormed, wellFormed)
  // Claude Code takes it as an argument of its command line, which may have 128 KB.
  .refine((schema) => bytesOf(JSON.stringify(schema)) <= 100_000, {
    error: 'must be at most 100000 bytes of JSON',
  })
  .describe('JSON Schema of the answer. The answer then comes as `structured_output`.');

const metadata = z
  .record(z.string().max(100), z.string().max(1000))
  .refine((map) => Object.keys(map).length <= 50, { error: 'must have at most 50 entries' })
  .refine(isWellFormed, wellFormed)
  .describe("The caller's own labels, kept with the conversation and returned with it.");

/** `ClaudeQueryRequest` under the given bounds. Parsing fills defaults and replaces tool aliases. */
export function queryRequest(bounds: Bounds) {
  const files = z
    .array(file)
    .max(bounds.files)
    .refine((list) => new Set(list.map((item) => item.path)).size === list.length, { error: 'paths must differ' })
    .refine(noneBelowAnother, { error: 'no path may lie below another one, which is a file' })
    .refine((list) => list.reduce((sum, item) => sum + bytesOf(item.content), 0) <= bounds.filesBytes, {
      error: `must hold at most ${bounds.filesBytes} bytes together`,
    });
  return z
    .strictObject({
      prompt: bounded(1, bounds.promptChars).describe('What Claude is asked.'),
      max_turns: z.int().min(1).max(bounds.maxTurns).default(3).describe('Most model calls of the run.'),
      system_prompt: optional(bounded(0, bounds.systemPromptChars)).describe(
        "Added to Claude Code's own system prompt.",
      ),
      project_path: optional(z.union([z.literal('').transform(() => null), path])).describe(
        'A directory on the server, inside one the key may use.',
      ),
      permission_mode: z.enum(permissionModes).default('askForEdits').describe('What runs unasked.'),
      allowed_tools: optional(
        z
          .array(toolName)
          .max(50)
          .transform((names) => [...new Set(names)]),
      ).describe('The tools that exist in the run. An empty list is no tools.'),
      timeout: z
        .int()
        .min(bounds.timeoutMinSeconds)
        .max(bounds.timeoutMaxSeconds)
        .default(Math.min(60, bounds.timeoutMaxSeconds))
        .describe('Longest duration of the run, in seconds.'),
      model: optional(
        z.string().min(1).max(200).refine(noControl, { error: 'must not contain control characters' }),
      ).describe('One of GET /api/claude/models.'),
      effort: optional(z.enum(effortLevels)).describe('How much the model thinks.'),
      output_schema: optional(outputSchema),
      files: optional(files).describe('Put into a fresh workspace before the run. Not together with `project_path`.'),
      max_budget_usd: optional(z.number().positive().max(10_000)).describe(
        'The run ends before the model call after this is spent.',
      ),
      cache: z.enum(['bypass', 'auto', 'refresh']).default('bypass').describe('Whether a stored answer may be used.'),
      instructions: z.boolean().default(false).describe("True: the workspace's CLAUDE.md is given to Claude as data."),
      metadata: optional(metadata),
    })
    .refine((request) => !(request.files && request.project_path), {
      error: 'cannot be combined with project_path',
      path: ['files'],
    })
    .meta({ id: 'ClaudeQueryRequest' });
}

/** A parsed query: defaults filled in, tool aliases replaced. */
export type QueryRequest = z.output<ReturnType<typeof queryRequest>>;
export type FileInput = z.output<typeof file>;

export const timestamp = z.iso.datetime().meta({ description: 'ISO 8601, UTC' });

export const claudeMessage = z
  .object({
    id: z.string().describe('Names the message within its conversation.'),
    content: z.string(),
    role: z.enum(['user', 'assistant', 'system']),
    timestamp: timestamp.nullable(),
    tools_used: z.array(z.string()),
    error: z.string().nullable(),
  })
  .meta({ id: 'ClaudeMessage' });
export type ClaudeMessage = z.output<typeof claudeMessage>;

export const usage = z
  .object({
    input_tokens: z.int(),
    output_tokens: z.int(),
    cache_read_tokens: z.int(),
    cache_write_tokens: z.int(),
  })
  .meta({ id: 'Usage' });
export type Usage = z.output<typeof usage>;

export const stopReasons = [
  'end_turn',
  'max_turns',
  'max_budget',
  'timeout',
  'interrupted',
  'refusal',
  'waiting',
  'error',
] as const;
export type StopReason = (typeof stopReasons)[number];

export const permissionDenial = z
  .object({
    tool_use_id: z.string(),
    tool: z.string(),
    reason: z.string(),
  })
  .meta({ id: 'PermissionDenial' });
export type PermissionDenial = z.output<typeof permissionDenial>;

/** Everything a finished run says about itself but its messages. */
export const runResult = z
  .object({
    success: z.boolean().describe('True only when `stop_reason` is `end_turn`.'),
    error: z.string().nullable().describe('What to tell the user when the run was cut or failed.'),
    execution_time: z.number().describe('Seconds.'),
    tokens_used: z.int().describe('All tokens: in, out and cache.'),
    request_id: z.string(),
    session_id: z.string().describe('The conversation of this run. It can be read and continued.'),
    model: z.string(),
    stop_reason: z.enum(stopReasons),
    usage,
    cost_usd: z.number(),
    structured_output: z.unknown().describe('The answer as `output_schema` asks for it, else null.'),
    tools_used: z.array(z.string()).describe('Tools that ran, each once, in order of first use.'),
    permission_denials: z.array(permissionDenial),
    changes: z
      .string()
      .nullable()
      .describe('Unified diff of the files that edit tools changed; null when nothing changed.'),
    changes_truncated: z.boolean(),
    changed_paths: z.array(z.string()).describe('Paths that changed, those changed by commands included.'),
    cached: z
      .union([z.literal(false), z.enum(['hit', 'coalesced'])])
      .describe(
        '`hit`: answered from before; `coalesced`: shared with an equal query. Both spend nothing, so they tell no usage.',
      ),
  })
  .meta({ id: 'RunResult' });
export type RunResult = z.output<typeof runResult>;

export const queryResponse = runResult
  .extend({ messages: z.array(claudeMessage).describe("What the run added, the user's own message first.") })
  .meta({ id: 'ClaudeQueryResponse' });
export type QueryResponse = z.output<typeof queryResponse>;

/** One item of a 422 answer, as FastAPI clients know it. */
export const validationIssue = z
  .object({ loc: z.array(z.union([z.string(), z.int()])), msg: z.string(), type: z.string() })
  .meta({ id: 'ValidationIssue' });
export type ValidationIssue = z.output<typeof validationIssue>;

const rateLimited = z
  .object({
    error: z.string(),
    limits: z
      .object({ requests_per_minute: z.int(), requests_per_hour: z.int(), burst_size: z.int() })
      .describe('`burst_size` is of any 10 seconds; 0: no limit.'),
    retry_after: z.int().describe('Seconds after which the same request is let through.'),
  })
  .meta({ id: 'RateLimited' });

export const errorBody = z
  .object({
    detail: z.union([z.string(), z.array(validationIssue), rateLimited]),
    code: z.string(),
    request_id: z.string(),
    retryable: z.boolean(),
  })
  .meta({ id: 'ErrorBody' });
export type ErrorBody = z.output<typeof errorBody>;

export const serviceHealth = z.object({
  status: z.literal('healthy'),
  version: z.string(),
  upstream: z.string().describe('Which model answers: `anthropic`, or `simulator` for the built-in simulated one.'),
});
export const readiness = z.object({ status: z.enum(['ready', 'not_ready']), failing: z.array(z.string()) });
export const claudeHealth = z.object({
  status: z.enum(['healthy', 'degraded', 'unhealthy']),
  claude_available: z.boolean(),
  error: z.string().nullable(),
});
export const models = z.object({ models: z.array(z.string()), default: z.string() });
export const ticket = z
  .object({
    ticket: z.string().describe('Stands for the key once.'),
    expires_in: z.int().describe('Seconds within which it can be used.'),
  })
  .meta({ id: 'Ticket' });
