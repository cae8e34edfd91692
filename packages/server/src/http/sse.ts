import { Socket } from 'node:net';
import type { ServerResponse } from 'node:http';
import { formatCursor, type StreamEvent, type StreamItem } from '@sallyport/protocol';
import type { FastifyReply } from 'fastify';
import type { SallyportError } from '../engine/errors.ts';
import type { Feed, Following, Reader } from '../engine/feed.ts';
import { eachInSlices } from '../engine/slices.ts';
import { exchangeOf, type LongAnswer } from './exchange.ts';

/** Headers of an answer of server-sent events. */
export const streamHeaders = {
  'content-type': 'text/event-stream',
  'cache-control': 'no-cache',
  'x-accel-buffering': 'no',
} as const;

/** The bytes of one or more events, made once for all who are sent them. */
export interface Frame {
  readonly text: Buffer;
  /** The same as a chunk of an answer over HTTP/1.1. */
  readonly chunk: Buffer;
}

/** Makes the frame of a text that is whole events or comments. */
export function frameOf(text: string): Frame {
  const head = `${Buffer.byteLength(text).toString(16)}\r\n`;
  const chunk = Buffer.from(`${head}${text}\r\n`);
  return { text: chunk.subarray(head.length, -2), chunk };
}

/** The line that ends a finished stream. */
const doneFrame = frameOf('data: [DONE]\n\n');

/** A comment that keeps every hop of a silent connection alive. Clients ignore it. */
const heartbeatFrame = frameOf(': keep-alive\n\n');

/** One event: JSON holds no line breaks, so it is one `data` line. Null for an event that nothing can continue after. */
export function eventText(id: string | null, data: unknown): string {
  return `${id === null ? '' : `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`;
}

const frames = new WeakMap<StreamItem, Frame>();

/** The frame of an event of a conversation, under the cursor that continues after it. Made once for all who are sent it. */
export function itemFrame(item: StreamItem): Frame {
  const made = frames.get(item);
  if (made) return made;
  const frame = frameOf(eventText(formatCursor(item.cursor), item.event));
  frames.set(item, frame);
  return frame;
}

/** True when the client asks for server-sent events, whatever else it takes. */
export function asksForEvents(accept: string | undefined): boolean {
  return (accept ?? '').split(',').some((range) => {
    const [type = '', ...parameters] = range.toLowerCase().split(';');
    return type.trim() === 'text/event-stream' && !parameters.some((text) => /^\s*q\s*=\s*0(?:\.0*)?\s*$/.test(text));
  });
}

/** The last event of a stream that broke off while what it followed goes on. */
export function brokenStatus(error: SallyportError): StreamEvent {
  const common = { content: '', role: 'system' as const, tools_used: [] };
  return { ...common, type: 'status', status: 'stream_failed', is_complete: true, error: error.detail };
}

/** Beats in which a silent stream gets a comment, and in which a client that takes nothing is cut. */
const silentBeats = 2;
const stalledBeats = 12;

/** The streams that are open, with one timer for all of them. */
export class OpenStreams {
  readonly #open = new Set<EventStream<never>>();
  readonly #beatMs: number;
  #timer: NodeJS.Timeout | undefined;

  /** `heartbeatMs`: a stream is silent no longer; a client that takes nothing for four of them is cut. */
  constructor(heartbeatMs: number) {
    this.#beatMs = heartbeatMs / (silentBeats + 1);
  }

  get size(): number {
    return this.#open.size;
  }

  /** Milliseconds that a client may take nothing. */
  get stallMs(): number {
    return this.#beatMs * stalledBeats;
  }

  add(stream: EventStream<never>): void {
    this.#open.add(stream);
    this.#timer ??= setInterval(
      () =>
        eachInSlices(
          this.#open,
          (one) => one.beat(),
          () => undefined,
        ),
      this.#beatMs,
    );
  }

  delete(stream: EventStream<never>): void {
    this.#open.delete(stream);
    if (this.#open.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Ends every stream where it is. */
  stopAll(): void {
    for (const stream of this.#open) stream.stop();
  }
}

/**
 * An answer of server-sent events about what it follows, as fast as its client takes them. It ends when the client leaves,
 * or with an event that says so when its key is gone. An idle one holds little more than its connection: the framework's
 * objects are let go, and frames are written to the connection itself, as chunks that all share who are sent them.
 */
export abstract class EventStream<T> implements Reader<T>, LongAnswer {
  readonly #streams: OpenStreams;
  readonly #response: ServerResponse;
  /** Null: the answer has to frame what it writes, or is behind another one. */
  readonly #socket: Socket | null;
  #following: Following | null = null;
  #over = false;
  /** Since the last frame. */
  #beats = 0;
  /** True when what was written is to be cut when the client does not take it. */
  #watched = false;
  #full = false;
  #corked = false;

  /** Answers with the head. Throws `invalid_key` when the key is gone, and then nothing was answered. */
  constructor(reply: FastifyReply, streams: OpenStreams) {
    const { raw } = reply;
    const headers = exchangeOf(raw).letGo(reply, this);
    this.#streams = streams;
    this.#response = raw;
    raw.writeHead(200, { ...headers, ...streamHeaders });
    const { socket } = raw;
    this.#socket = socket instanceof Socket && raw.chunkedEncoding ? socket : null;
    this.#join();
    raw.flushHeaders();
    streams.add(this);
  }

  /** True when nothing is sent any more. */
  protected get over(): boolean {
    return this.#over;
  }

  /** What of an item is sent. */
  protected abstract frameOf(item: T): Frame;

  /** Nothing comes any more. */
  abstract end(): void;
  abstract fail(error: unknown): void;

  /** Begins to send what the feed tells. */
  follow(feed: Feed<T>): void {
    this.follows(feed.follow(this));
  }

  /** What tells it the items, and is stopped when the stream is over. */
  follows(following: Following): void {
    if (this.#over) following.stop();
    else this.#following = following;
  }

  take(item: T, more = false): boolean {
    return this.send(this.frameOf(item), more);
  }

  /** Sends a frame; false when the client has enough for now. `more`: with those that are sent in the same breath. */
  protected send(frame: Frame, more = false): boolean {
    if (this.#over) return false;
    this.#beats = 0;
    if (more) this.#join();
    if (this.#socket ? this.#socket.write(frame.chunk) : this.#response.write(frame.text)) return !this.#full;
    if (!this.#full) (this.#socket ?? this.#response).once('drain', () => this.#goOn());
    this.#full = true;
    this.#watchStall();
    return false;
  }

  /** Sends a comment, so that the head does not wait for what happens. */
  greet(): void {
    this.send(heartbeatFrame, true);
  }

  /** Sends what is written in the same breath at once, as Node itself does where the answer frames it. */
  #join(): void {
    if (this.#corked || !this.#socket) return;
    this.#corked = true;
    this.#socket.cork();
    process.nextTick(EventStream.#send, this);
  }

  static #send(this: void, stream: EventStream<never>): void {
    stream.#corked = false;
    if (!stream.#over) stream.#socket?.uncork();
  }

  /** Ends with a last frame, or, when it is `done`, with the line that says that this was all. */
  protected close(last: Frame | null, done: boolean): void {
    if (this.#over) return;
    if (last) this.send(last, true);
    if (done) this.send(doneFrame, true);
    this.stop();
  }

  /** Ends with what was sent. */
  stop(): void {
    if (this.#over) return;
    this.#leave();
    this.#watchStall();
    const { socket } = this.#response;
    if (socket instanceof Socket) this.#response.prependOnceListener('finish', () => socket.setTimeout(0)); // before Node sets its own
    this.#response.end();
  }

  closed(): void {
    this.#leave();
  }

  keyGone(reason: SallyportError): void {
    this.close(frameOf(eventText(null, brokenStatus(reason))), false);
  }

  /** Sends a comment when it is due. What a client does not take is watched meanwhile. */
  beat(): void {
    const pending = this.#response.writableLength > 0 || (this.#socket?.writableLength ?? 0) > 0;
    if (pending) this.#watchStall();
    else if (this.#watched) {
      this.#watched = false;
      this.#mayStall(0);
    }
    if (!pending && (this.#beats += 1) > silentBeats - 1) this.send(heartbeatFrame);
  }

  #watchStall(): void {
    if (this.#watched) return;
    this.#watched = true;
    this.#mayStall(this.#streams.stallMs);
  }

  /** Cuts the connection when nothing was taken for so many milliseconds; 0: never. */
  #mayStall(ms: number): void {
    const { socket } = this.#response;
    if (socket instanceof Socket) socket.setTimeout(ms); // an injected request has no real socket
  }

  #goOn(): void {
    this.#full = false;
    if (!this.#over) this.#following?.goOn();
  }

  #leave(): void {
    this.#over = true;
    this.#streams.delete(this);
    this.#following?.stop();
    this.#following = null;
  }
}
