import type { Cursor } from './cursor.ts';
import type { Delta, LogEvent, LogEventBody, StreamEvent, TurnStatus } from './events.ts';

/** An event for the wire with the cursor that continues after it. */
export interface StreamItem {
  readonly cursor: Cursor;
  readonly event: StreamEvent;
}

type Of<T extends LogEventBody['type']> = Extract<LogEventBody, { type: T }>;

const plain = { content: '', role: 'system' as const, tools_used: [] as string[], is_complete: false, error: null };
const assistant = { ...plain, role: 'assistant' as const };

function resultEvent({ result, code }: Of<'result'>): StreamEvent {
  const { error, tools_used, ...rest } = result;
  return { ...plain, ...rest, type: 'result', code, tools_used, error, is_complete: true };
}

function approvalEvent(body: Of<'approval_requested'>): StreamEvent {
  const { type: _type, ...requested } = body;
  const approval = { ...requested, status: 'pending' as const, decided_at: null, decided_by: null };
  return { ...plain, type: requested.kind === 'question' ? 'question' : 'approval_requested', approval };
}

function wholeEvent(body: Exclude<LogEventBody, Of<'text'> | Of<'thinking'>>): StreamEvent {
  switch (body.type) {
    case 'user_message':
      return { ...plain, role: 'user', type: 'user_message', content: body.text };
    case 'tool_start':
      return {
        ...assistant,
        type: 'tool_start',
        tools_used: [body.name],
        tool_use_id: body.tool_use_id,
        name: body.name,
        input: body.input,
      };
    case 'tool_end':
      return { ...assistant, type: 'tool_end', tool_use_id: body.tool_use_id, ok: body.ok, summary: body.summary };
    case 'tool_denied':
      return {
        ...plain,
        type: 'status',
        status: 'tool_denied',
        tool_use_id: body.tool_use_id,
        name: body.name,
        reason: body.reason,
      };
    case 'approval_requested':
      return approvalEvent(body);
    case 'approval_decided':
      return {
        ...plain,
        type: 'approval_decided',
        approval_id: body.approval_id,
        tool_use_id: body.tool_use_id,
        status: body.status,
        decided_by: body.decided_by,
      };
    case 'retry':
      return { ...plain, type: 'retry', attempt: body.attempt, reason: body.reason };
    case 'restart':
      return { ...plain, type: 'restart' };
    case 'result':
      return resultEvent(body);
  }
}

const deltaEvent = (block: 'text' | 'thinking', text: string): StreamEvent =>
  block === 'text'
    ? { ...assistant, type: 'text_delta', content: text }
    : { ...assistant, type: 'thinking_delta', thinking: text };

/**
 * Turns a log and its live deltas into wire events, from any cursor. Feeding it the same log after any of its own
 * cursors gives exactly the rest: nothing twice, nothing missing.
 */
export class StreamProjector {
  #seq: number;
  #chars: number;

  constructor(after: Cursor) {
    this.#seq = after.seq;
    this.#chars = after.chars;
  }

  get cursor(): Cursor {
    return { seq: this.#seq, chars: this.#chars };
  }

  /** The parts of `cursor`, for whoever looks at them for every piece. */
  get seq(): number {
    return this.#seq;
  }

  get chars(): number {
    return this.#chars;
  }

  /** Goes on at another cursor. */
  moveTo(cursor: Cursor): void {
    this.#seq = cursor.seq;
    this.#chars = cursor.chars;
  }

  /** Takes the next durable event. An event at or before the cursor gives nothing. */
  log(event: LogEvent): StreamItem | null {
    if (event.seq <= this.#seq) return null;
    this.#seq = event.seq;
    const { body } = event;
    if (body.type === 'text' || body.type === 'thinking') {
      const rest = (body.type === 'text' ? body.text : body.thinking).slice(this.#chars);
      this.#chars = 0;
      return rest === '' ? null : { cursor: this.cursor, event: deltaEvent(body.type, rest) };
    }
    if (body.type === 'restart' || body.type === 'result') this.#chars = 0;
    return { cursor: this.cursor, event: wholeEvent(body) };
  }

  /** Tells where a turn stands. It is not of the log: the cursor stays where it is. */
  status(status: TurnStatus): StreamItem {
    return { cursor: this.cursor, event: { ...plain, type: 'status', ...status } };
  }

  /** Takes a live delta; what was already seen of it is left out. A delta beyond a gap gives nothing: the whole block follows. */
  delta(delta: Delta): StreamItem | null {
    const seen = this.#chars - delta.offset;
    if (seen < 0 || seen >= delta.text.length) return null;
    const text = delta.text.slice(seen);
    this.#chars += text.length;
    return { cursor: this.cursor, event: deltaEvent(delta.block, text) };
  }
}
