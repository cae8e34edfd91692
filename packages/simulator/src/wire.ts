import { randomUUID } from 'node:crypto';
import type { AnswerBlock, MessagesRequest, Step, Usage } from './types.ts';

/** A piece of an answer's body. `chars` of it are content, which is what a rate counts. */
export interface Part {
  bytes: string;
  chars: number;
}

type CompleteBlock =
  | { type: 'text'; text: string }
  | { type: 'thinking'; thinking: string; signature: string }
  | { type: 'tool_use'; id: string; name: string; input: unknown };

/** A whole answer, as the non-streaming call returns it. */
export interface Answer {
  id: string;
  type: 'message';
  role: 'assistant';
  model: string;
  content: CompleteBlock[];
  stop_reason: string;
  stop_sequence: null;
  usage: Required<Usage> & { service_tier: string };
}

/** A unique id that looks like one of Anthropic's, for example `msg_01c0...`. */
export function newId(prefix: 'msg' | 'toolu' | 'req'): string {
  return `${prefix}_01${randomUUID().replaceAll('-', '').slice(0, 22)}`;
}

const charsPerToken = 4;
const tokensPerImage = 1500;

/** Tokens of a request, at 4 characters per token and 1500 per image or document; at least 1. */
export function inputTokens(request: Pick<MessagesRequest, 'messages' | 'system' | 'tools'>): number {
  let images = 0;
  const text = JSON.stringify([request.system ?? '', request.tools ?? [], request.messages], (_key, value: unknown) => {
    if (typeof value !== 'object' || value === null || !('type' in value) || value.type !== 'base64') return value;
    images++;
    return null;
  });
  return Math.max(1, Math.ceil(text.length / charsPerToken)) + images * tokensPerImage;
}

function contentOf(block: CompleteBlock): string {
  if (block.type === 'text') return block.text;
  return block.type === 'thinking' ? block.thinking : JSON.stringify(block.input ?? {});
}

/** The blocks a step stands for, in order. */
export function blocksOfStep(step: Step): AnswerBlock[] {
  if (step.blocks) return step.blocks;
  const blocks: AnswerBlock[] = [];
  if (step.thinking !== undefined) blocks.push({ type: 'thinking', thinking: step.thinking });
  if (step.text !== undefined) blocks.push({ type: 'text', text: step.text });
  for (const tool of step.tools ?? []) blocks.push({ type: 'tool_use', ...tool });
  if (step.structured !== undefined) {
    blocks.push({ type: 'tool_use', name: 'StructuredOutput', input: step.structured });
  }
  return blocks;
}

function complete(block: AnswerBlock): CompleteBlock {
  if (block.type === 'tool_use') return { ...block, id: block.id ?? newId('toolu') };
  if (block.type === 'thinking') {
    return { ...block, signature: block.signature ?? Buffer.from(randomUUID()).toString('base64') };
  }
  return block;
}

/** Makes the whole answer of a step: ids, stop reason, and usage computed from lengths unless the step gives it. */
export function answerOf(step: Step, request: MessagesRequest, model: string): Answer {
  const content = blocksOfStep(step).map(complete);
  const chars = content.reduce((sum, block) => sum + contentOf(block).length, 0);
  const calls = content.some((block) => block.type === 'tool_use');
  return {
    id: newId('msg'),
    type: 'message',
    role: 'assistant',
    model,
    content,
    stop_reason: step.stop_reason ?? (calls ? 'tool_use' : 'end_turn'),
    stop_sequence: null,
    usage: {
      input_tokens: inputTokens(request),
      cache_creation_input_tokens: 0,
      cache_read_input_tokens: 0,
      output_tokens: Math.max(1, Math.ceil(chars / charsPerToken)),
      ...step.usage,
      service_tier: 'standard',
    },
  };
}

/** One server-sent event. */
export function event(data: { type: string; [key: string]: unknown }, chars = 0): Part {
  return { bytes: `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`, chars };
}

function* pieces(text: string, size: number): Generator<string> {
  for (let at = 0; at < text.length;) {
    let end = at + size;
    const last = text.charCodeAt(end - 1);
    // A high surrogate takes its other half along.
    if (last >= 0xd800 && last <= 0xdbff) end++;
    yield text.slice(at, end);
    at = end;
  }
}

function startOf(block: CompleteBlock): unknown {
  if (block.type === 'text') return { type: 'text', text: '' };
  if (block.type === 'thinking') return { type: 'thinking', thinking: '', signature: '' };
  return { type: 'tool_use', id: block.id, name: block.name, input: {} };
}

function deltaOf(block: CompleteBlock, piece: string): unknown {
  if (block.type === 'text') return { type: 'text_delta', text: piece };
  if (block.type === 'thinking') return { type: 'thinking_delta', thinking: piece };
  return { type: 'input_json_delta', partial_json: piece };
}

/**
 * The events of a streamed answer. Deltas carry `chunk` characters each. With a `limit` the stream breaks off after
 * that many characters of content, inside the open block, and at the latest before `message_delta`.
 */
export function* streamParts(answer: Answer, chunk: number, limit = Infinity): Generator<Part> {
  const begun = { ...answer, content: [], stop_reason: null, usage: { ...answer.usage, output_tokens: 1 } };
  yield event({ type: 'message_start', message: begun });
  if (answer.content.length === 0) yield event({ type: 'ping' });
  let left = limit;
  for (const [index, block] of answer.content.entries()) {
    yield event({ type: 'content_block_start', index, content_block: startOf(block) });
    if (index === 0) yield event({ type: 'ping' });
    for (const piece of pieces(contentOf(block), chunk)) {
      if (left <= 0) return;
      const sent = piece.slice(0, left);
      left -= sent.length;
      yield event({ type: 'content_block_delta', index, delta: deltaOf(block, sent) }, sent.length);
    }
    if (left <= 0) return;
    if (block.type === 'thinking') {
      const delta = { type: 'signature_delta', signature: block.signature };
      yield event({ type: 'content_block_delta', index, delta });
    }
    yield event({ type: 'content_block_stop', index });
  }
  if (limit !== Infinity) return;
  const { service_tier: _tier, ...usage } = answer.usage;
  yield event({ type: 'message_delta', delta: { stop_reason: answer.stop_reason, stop_sequence: null }, usage });
  yield event({ type: 'message_stop' });
}

const errorTypes: Record<number, string> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  402: 'billing_error',
  403: 'permission_error',
  404: 'not_found_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  504: 'timeout_error',
  529: 'overloaded_error',
};

/** The error type that belongs to a status; `api_error` for any other. */
export function errorType(status: number): string {
  return errorTypes[status] ?? 'api_error';
}

/** The status that belongs to an error type; 500 for any other. */
export function errorStatus(type: string): number {
  return Number(Object.entries(errorTypes).find(([, known]) => known === type)?.[0] ?? 500);
}

/** Anthropic's error body. */
export function errorBody(type: string, message: string, requestId: string) {
  return { type: 'error', error: { type, message }, request_id: requestId };
}
