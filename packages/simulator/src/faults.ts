import { errorBody, errorStatus, errorType, event, streamParts } from './wire.ts';
import type { Answer, Part } from './wire.ts';
import type { Fault, Step } from './types.ts';

/** How an answer is delivered. */
export interface Delivery {
  status: number;
  headers: Record<string, string>;
  /** Null: not even headers are sent. */
  parts: Iterable<Part> | null;
  /** What happens after the last part. */
  ending: 'end' | 'destroy' | 'silence';
  /** One byte per write. */
  byteWise: boolean;
}

const statusMessages: Record<number, string> = {
  400: 'messages: Input should be valid',
  401: 'invalid x-api-key',
  402: 'Your account has an outstanding balance.',
  403: 'Your API key does not have permission to use the specified resource.',
  404: 'model not found',
  413: 'Request exceeds the maximum size',
  429: "This request would exceed your account's rate limit. Please try again later.",
  504: 'The request timed out',
  529: 'Overloaded',
};

const knownMessages = new Map([
  ['prompt is too long', 'prompt is too long: 214035 tokens > 200000 maximum'],
  [
    'credit balance',
    'Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.',
  ],
]);

function json(status: number, body: unknown, headers: Record<string, string> = {}): Delivery {
  return {
    status,
    headers: { 'content-type': 'application/json', ...headers },
    parts: [{ bytes: JSON.stringify(body), chars: 0 }],
    ending: 'end',
    byteWise: false,
  };
}

/** An error answer in Anthropic's shape. */
export function errorDelivery(status: number, message: string, requestId: string, type = errorType(status)): Delivery {
  return json(status, errorBody(type, message, requestId));
}

/** A plain JSON answer. */
export function jsonDelivery(body: unknown): Delivery {
  return json(200, body);
}

function goodDelivery(answer: Answer, step: Step, stream: boolean, limit?: number): Delivery {
  if (!stream) return partOfJson(answer, limit);
  const chunk = step.chunk ?? (step.rate === undefined ? 24 : 4);
  return {
    status: 200,
    headers: { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' },
    parts: streamParts(answer, chunk, limit),
    ending: 'end',
    byteWise: false,
  };
}

/** A non-streaming answer; with a limit at most that much of it, and never all. */
function partOfJson(answer: Answer, limit?: number): Delivery {
  const delivery = json(200, answer);
  if (limit === undefined) return delivery;
  const body = JSON.stringify(answer);
  return { ...delivery, parts: [{ bytes: body.slice(0, Math.min(limit, body.length - 1)), chars: 0 }] };
}

/** How the answer of a step goes out, with the fault if there is one. */
export function deliveryOf(
  answer: Answer,
  step: Step,
  fault: Fault | undefined,
  stream: boolean,
  requestId: string,
): Delivery {
  const good = goodDelivery(answer, step, stream);
  if (!fault) return good;
  switch (fault.kind) {
    case 'status':
      return statusDelivery(fault, requestId);
    case 'hang':
      return { ...good, parts: null, ending: 'silence' };
    case 'refuse':
      return { ...good, parts: null, ending: 'destroy' };
    case 'stall':
      return { ...goodDelivery(answer, step, stream, fault.after_chars ?? 0), ending: 'silence' };
    case 'cut':
      return { ...goodDelivery(answer, step, stream, fault.after_chars ?? 0), ending: 'destroy' };
    case 'slow_bytes':
      return { ...good, byteWise: true };
    case 'garbage':
      return { ...good, parts: garbage };
    case 'error_event':
      return errorEvent(answer, step, fault, stream, requestId);
    case 'no_message_stop':
      return goodDelivery(answer, step, stream, Number.MAX_SAFE_INTEGER);
    case 'unknown_events':
      return stream ? { ...good, parts: withUnknown(good.parts ?? []) } : json(200, oddAnswer(answer));
  }
}

function statusDelivery(fault: Fault & { kind: 'status' }, requestId: string): Delivery {
  const { status, retry_after: retryAfter } = fault;
  const message = fault.message ?? statusMessages[status] ?? 'Internal server error';
  const body = errorBody(fault.error_type ?? errorType(status), knownMessages.get(message) ?? message, requestId);
  return json(status, body, retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) });
}

const garbage: Part[] = [
  'event: message_start\ndata: {"type":"message_start","message":{"id":\n\n',
  'data: <html><body>Bad gateway</body></html>\n\n',
  'event\n: \nid: \u0000\ndata\ndata: [1,2\n\n',
  'data: null\n\ndata: 7\n\nevent: content_block_delta\ndata: {"type":"content_block_delta","index":99}\n\n',
  '\u{1f4a5}\ufffd\u0007 no newline at the end',
].map((bytes) => ({ bytes, chars: 0 }));

function errorEvent(
  answer: Answer,
  step: Step,
  fault: Fault & { kind: 'error_event' },
  stream: boolean,
  requestId: string,
): Delivery {
  const type = fault.error_type ?? 'overloaded_error';
  const message = fault.message ?? statusMessages[errorStatus(type)] ?? 'Internal server error';
  if (!stream) return errorDelivery(errorStatus(type), message, requestId, type);
  const begun = goodDelivery(answer, step, stream, fault.after_chars ?? 0);
  return { ...begun, parts: followedBy(begun.parts ?? [], event(errorBody(type, message, requestId))) };
}

function* followedBy(parts: Iterable<Part>, last: Part): Generator<Part> {
  yield* parts;
  yield last;
}

const senselessUsage = { input_tokens: -5, output_tokens: 'many', cache_read_input_tokens: null, hats: 1e300 };

function oddAnswer(answer: Answer): unknown {
  return { ...answer, weather: 'rain', container: null, usage: { ...answer.usage, ...senselessUsage } };
}

/** Every known event keeps its place and stays whole, so that a tolerant reader finds the good answer. */
function* withUnknown(parts: Iterable<Part>): Generator<Part> {
  let number = 0;
  for (const part of parts) {
    yield part;
    number++;
    yield { bytes: ': a comment\n\n', chars: 0 };
    if (number % 2 === 1) yield event({ type: 'weather_report', wind: number, usage: senselessUsage });
    if (number === 2) yield event({ type: 'message_delta', delta: {}, usage: senselessUsage });
  }
}
