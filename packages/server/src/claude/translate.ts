import type { SDKMessage } from '@anthropic-ai/claude-agent-sdk';
import type { LogEventBody } from '@sallyport/protocol';

/** Where the translation of a run's messages goes. */
export interface TurnSink {
  /** A piece of the open text or thinking block. */
  delta(block: 'text' | 'thinking', text: string): void;
  /**
   * A durable event. Between the first piece of a block and its end others than its end wait for that. Blocks that are
   * recorded again right after `restart` are those that stay, as the same objects; some may never have been withdrawn.
   */
  record(event: LogEventBody): void;
  /** A complete tool call was seen; the texts before it have been recorded. */
  toolUse(id: string, messageId: string): void;
}

type Kind = 'text' | 'thinking';
type Json = Readonly<Record<string, unknown>>;

interface OpenBlock {
  readonly kind: Kind;
  readonly messageId: string;
  text: string;
}

interface RecordedBlock {
  readonly uuid: string;
  readonly event: Extract<LogEventBody, { type: Kind }>;
}

/** Most characters of a tool's outcome in `tool_end`. */
const summaryChars = 500;

/** Turns the messages of one turn into events. Pure: no clock, no I/O; what it does not know it ignores. */
export class Translator {
  readonly #sink: TurnSink;
  readonly #allowed: (toolUseId: string) => boolean;
  #open: OpenBlock | null = null;
  /** The message whose end was not seen yet, else empty. */
  #messageId = '';
  #model: string | null = null;
  /** The last message of which there is a text or a call: Claude Code keeps its whole blocks when it is cut. */
  #keptMessage: string | null = null;
  /** The last message that makes a call. */
  #callingMessage: string | null = null;
  /** The block that was withdrawn as it was cut beside a call, as long as Claude Code does not go on. */
  #cut: OpenBlock | null = null;
  /** The latest blocks, with at least all that a client drops at `restart`: others record events too. */
  #span: RecordedBlock[] = [];

  /** `allowed` says of a tool call whether it was let run: only those get a `tool_end`. */
  constructor(sink: TurnSink, allowed: (toolUseId: string) => boolean) {
    this.#sink = sink;
    this.#allowed = allowed;
  }

  /** The model that answered last, as the upstream named it. */
  get model(): string | null {
    return this.#model;
  }

  take(message: SDKMessage): void {
    const told = message as unknown as Json;
    const { type, parent_tool_use_id: parent = null } = told;
    // What a subagent says is not the answer.
    if (parent !== null) return;
    if (type === 'stream_event') this.#takeStreamEvent(objectOf(told['event']));
    if (type === 'assistant') this.#takeAssistant(objectOf(told['message']), told);
    if (type === 'user') this.#takeUser(objectOf(told['message']));
    if (type === 'system' && told['subtype'] === 'api_retry') this.#takeRetry(told['attempt']);
  }

  /** To be called when nothing more comes: what is known of an open or cut block is recorded. */
  finish(): void {
    const last = this.#open ?? this.#cut;
    this.#open = null;
    this.#cut = null;
    if (last !== null) this.#recordBlock(last.kind, last.messageId, last.text, '');
  }

  #takeStreamEvent(event: Json): void {
    if (event['type'] === 'message_start') {
      this.#dropUnfinished();
      this.#messageId = textOf(objectOf(event['message'])['id']);
    } else if (event['type'] === 'content_block_start') {
      const block = objectOf(event['content_block']);
      const { type } = block;
      if (type !== 'text' && type !== 'thinking') return;
      this.#begin(type);
      this.#extend(type, textOf(block[type]));
    } else if (event['type'] === 'content_block_delta') {
      const delta = objectOf(event['delta']);
      if (delta['type'] === 'text_delta') this.#extend('text', textOf(delta['text']));
      if (delta['type'] === 'thinking_delta') this.#extend('thinking', textOf(delta['thinking']));
    } else if (event['type'] === 'message_delta') {
      // Not sent of a message that was cut.
      this.#messageId = '';
    } else if (event['type'] === 'message_stop') {
      this.#cutBesideCall();
    }
  }

  #takeAssistant(message: Json, { uuid, supersedes }: Json): void {
    if (Array.isArray(supersedes) && this.#span.some((block) => supersedes.includes(block.uuid))) {
      this.#restart(this.#span.filter((block) => !supersedes.includes(block.uuid)));
    }
    // An error in words, not an answer.
    if (message['model'] === '<synthetic>') return;
    this.#cut = null;
    this.#model = textOf(message['model']) || this.#model;
    const id = textOf(message['id']);
    for (const block of listOf(message['content'])) {
      const { type } = block;
      if (type === 'text' || type === 'thinking') this.#close(type, id, textOf(block[type]), textOf(uuid));
      if (type === 'text' || type === 'tool_use') this.#keptMessage = id;
      if (type !== 'tool_use') continue;
      this.#callingMessage = id;
      this.#sink.toolUse(textOf(block['id']), id);
    }
  }

  #takeUser(message: Json): void {
    for (const block of listOf(message['content'])) {
      const id = textOf(block['tool_use_id']);
      if (block['type'] !== 'tool_result' || !this.#allowed(id)) continue;
      const ok = block['is_error'] !== true;
      this.#recordOther({ type: 'tool_end', tool_use_id: id, ok, summary: summaryOf(block['content']) });
    }
  }

  #takeRetry(attempt: unknown): void {
    this.#dropUnfinished();
    const number = Number.isSafeInteger(attempt) ? Number(attempt) : 1;
    this.#recordOther({ type: 'retry', attempt: number, reason: 'upstream_error' });
  }

  #begin(kind: Kind): OpenBlock {
    this.finish();
    this.#open = { kind, messageId: this.#messageId, text: '' };
    return this.#open;
  }

  #extend(kind: Kind, text: string): void {
    const block = this.#open?.kind === kind ? this.#open : this.#begin(kind);
    if (text === '') return;
    block.text += text;
    this.#sink.delta(kind, text);
  }

  /** Takes the whole of a block. What was streamed of it is its beginning, or it is told anew. */
  #close(kind: Kind, messageId: string, text: string, uuid: string): void {
    if (this.#open?.kind !== kind) this.finish();
    else if (!text.startsWith(this.#open.text)) this.#restart(this.#span);
    this.#open = null;
    this.#recordBlock(kind, messageId, text, uuid);
  }

  /** Claude Code forgets the block whose stream was cut and asks the model again. It keeps whole blocks, but not thinking alone. */
  #dropUnfinished(): void {
    const id = this.#open?.messageId ?? this.#messageId;
    const wasSeen = this.#open !== null && this.#open.text !== '';
    this.#open = null;
    this.#cut = null;
    const stays = this.#span.filter(({ event }) => id === this.#keptMessage || event.message_id !== id);
    if (wasSeen || stays.length < this.#span.length) this.#restart(stays);
  }

  /**
   * To be called at the end of a message, before which each whole block was told: an open one was cut. The model is asked
   * again after the calls of the message only, and their events wait for the end of the block: so it is withdrawn now.
   */
  #cutBesideCall(): void {
    const cut = this.#open;
    if (cut === null || cut.messageId !== this.#callingMessage) return;
    this.#dropUnfinished();
    this.#cut = cut;
  }

  /** Withdraws the open block and every other one that does not stay. */
  #restart(stays: readonly RecordedBlock[]): void {
    this.#open = null;
    this.#sink.record({ type: 'restart' });
    this.#span = [...stays];
    for (const { event } of stays) this.#sink.record(event);
  }

  #recordBlock(kind: Kind, id: string, text: string, uuid: string): void {
    if (text === '') return;
    const event: RecordedBlock['event'] =
      kind === 'text' ? { type: 'text', message_id: id, text } : { type: 'thinking', message_id: id, thinking: text };
    this.#span.push({ uuid, event });
    this.#sink.record(event);
  }

  #recordOther(event: LogEventBody): void {
    this.#sink.record(event);
    // Else it waits for the end of the open block, and until then a `restart` withdraws what is before that.
    if (this.#open === null || this.#open.text === '') this.#span = [];
  }
}

function summaryOf(content: unknown): string {
  const text =
    typeof content === 'string'
      ? content
      : listOf(content)
          .map((part) => (part['type'] === 'text' ? textOf(part['text']) : `[${textOf(part['type'])}]`))
          .join('\n');
  return text.length <= summaryChars ? text : `${text.slice(0, summaryChars - 1).toWellFormed()}…`;
}

function objectOf(value: unknown): Json {
  return typeof value === 'object' && value !== null ? (value as Json) : {};
}

function listOf(value: unknown): Json[] {
  return Array.isArray(value) ? value.map(objectOf) : [];
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
