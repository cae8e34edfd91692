import type { IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import type { BrokerGrant } from '../engine/ports.ts';

/** Largest body of a call. The upstream takes 32 MB; the rest is for what it may take later. */
export const maxBodyBytes = 40 * 1024 * 1024;

const paths = new Set(['/v1/messages', '/v1/messages/count_tokens']);

/** A call that may be passed. */
export interface Route {
  /** Path and query as the upstream gets them. */
  readonly target: string;
  /** True: tokens are counted, no message is made and nothing is charged. */
  readonly counting: boolean;
}

/** The route of a request; null for everything the broker does not pass. */
export function routeOf(request: IncomingMessage): Route | null {
  const [path = '', query, ...rest] = (request.url ?? '').split('?');
  if (request.method !== 'POST' || !paths.has(path) || rest.length > 0) return null;
  if (query !== undefined && !/^[\w=&.,-]{0,200}$/.test(query)) return null;
  return { target: query === undefined ? path : `${path}?${query}`, counting: path !== '/v1/messages' };
}

/** Most that is read of a body that is not wanted. */
const maxDiscardedBytes = 4 * maxBodyBytes;

/**
 * Reads a body of at most `limit` bytes. Null when it is larger: it is then read to its end but not kept, as a client
 * that is still writing would not see the answer. Rejects when the client leaves or the body does not end.
 */
export async function readBody(request: IncomingMessage, limit: number): Promise<Buffer | null> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes <= limit) chunks.push(chunk);
    else if (bytes > maxDiscardedBytes) throw new Error('the body does not end');
    else chunks.length = 0;
  }
  return bytes > limit ? null : Buffer.concat(chunks, bytes);
}

/** Headers of the client that the upstream gets. All others stay here, credentials and cookies among them. */
const passedUp = ['content-type', 'anthropic-version', 'anthropic-beta', 'user-agent', 'x-claude-code-session-id'];

/** The headers of a call on its way up, with the real key if there is one. Answers are asked for uncompressed. */
export function headersUp(headers: IncomingHttpHeaders, apiKey: string | null, length: number): OutgoingHttpHeaders {
  const up: OutgoingHttpHeaders = { 'accept-encoding': 'identity', 'content-length': length };
  for (const name of passedUp) if (headers[name] !== undefined) up[name] = headers[name];
  if (apiKey !== null) up['x-api-key'] = apiKey;
  return up;
}

/** Headers of the upstream that the client gets. */
const passedDown = ['content-type', 'content-length', 'request-id'];

/** The headers of an answer on its way down. */
export function headersDown(headers: IncomingHttpHeaders): OutgoingHttpHeaders {
  const down: OutgoingHttpHeaders = { 'cache-control': 'no-store' };
  for (const name of passedDown) if (headers[name] !== undefined) down[name] = headers[name];
  return down;
}

/** The bytes to send up, or why the call is not passed. */
export type Prepared =
  /** `main`: it counts as a call of the model; a small job beside the run, which offers no tools, does not. */
  { readonly body: Buffer; readonly main: boolean } | { readonly refused: string };

/**
 * Checks the model of a body and switches off parallel tool calls where the grant says so. Otherwise the bytes stay as
 * they are, unless another reader could find another model in them than we did.
 */
export function prepareBody(raw: Buffer, grant: BrokerGrant, counting: boolean): Prepared {
  const text = raw.toString();
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return { refused: 'the body is not JSON' };
  }
  if (!isObject(parsed)) return { refused: 'the body is no object' };
  const { model } = parsed;
  if (model !== grant.model) {
    return { refused: `the model ${JSON.stringify(model)?.slice(0, 100)} is not the one that was granted` };
  }
  const single = grant.singleToolCalls && !counting;
  if (single && Array.isArray(parsed['tools']) && parsed['tools'].length > 0) {
    const choice = isObject(parsed['tool_choice']) ? parsed['tool_choice'] : { type: 'auto' };
    if (choice['type'] !== 'none') parsed['tool_choice'] = { ...choice, disable_parallel_tool_use: true };
  }
  const cleared = grant.cleared && dropClear(parsed);
  const main = !grant.hasTools || (Array.isArray(parsed['tools']) && parsed['tools'].length > 0);
  return { main, body: single || cleared || isAmbiguous(text) ? Buffer.from(JSON.stringify(parsed)) : raw };
}

/** How the blocks begin with which Claude Code tells the model of `/clear`, before the first message. */
const clearMarks = ['<local-command-caveat>', '<command-name>/clear</command-name>', '<local-command-stdout>'] as const;

/** Takes those blocks out: the model is sent what a process that has just started would send. False when there are none. */
function dropClear(body: Record<string, unknown>): boolean {
  const [first] = Array.isArray(body['messages']) ? (body['messages'] as unknown[]) : [];
  if (!isObject(first) || !Array.isArray(first['content'])) return false;
  const blocks = first['content'] as unknown[];
  const says = (block: unknown, mark: string): boolean =>
    isObject(block) && typeof block['text'] === 'string' && block['text'].startsWith(mark);
  if (!clearMarks.every((mark, index) => says(blocks[index], mark))) return false;
  first['content'] = blocks.slice(clearMarks.length);
  return true;
}

/** True when a body may hold the key `model` more than once, plainly or with escaped letters. */
function isAmbiguous(text: string): boolean {
  return text.indexOf('model"') !== text.lastIndexOf('model"') || text.includes('u006');
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
