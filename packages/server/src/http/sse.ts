import { Readable } from 'node:stream';
import { formatCursor, type StreamEvent, type StreamItem } from '@sallyport/protocol';
import type { FastifyReply } from 'fastify';
import { SallyportError } from '../engine/errors.ts';

/** Headers of an answer of server-sent events. */
export const streamHeaders = {
  'content-type': 'text/event-stream',
  'cache-control': 'no-cache',
  'x-accel-buffering': 'no',
} as const;

/** The line that ends a finished stream. */
export const doneFrame = 'data: [DONE]\n\n';

/** A comment that keeps every hop of a silent connection alive. Clients ignore it. */
export const heartbeatFrame = ': keep-alive\n\n';

/** One event: JSON holds no line breaks, so it is one `data` line. Null for an event that nothing can continue after. */
export function eventFrame(id: string | null, data: unknown): string {
  return `${id === null ? '' : `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`;
}

const frames = new WeakMap<StreamItem, Buffer>();

/** The frame of an event of a conversation, under the cursor that continues after it. Made once for all who are sent it. */
export function itemFrame(item: StreamItem): Buffer {
  const made = frames.get(item);
  if (made) return made;
  const frame = Buffer.from(eventFrame(formatCursor(item.cursor), item.event));
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

/** A stream of the frames until their end, or until the key of their reader is gone, which is the last one then. */
function streamOf(frames: AsyncIterable<string | Buffer>, keyGone: AbortSignal | null): Readable {
  let goOn = (): void => undefined;
  const stream = new Readable({
    read: () => goOn(),
    destroy(error, done) {
      goOn();
      done(error);
    },
  });
  const fill = async (): Promise<void> => {
    for await (const frame of frames) {
      if (keyGone?.aborted || stream.destroyed) break;
      if (!stream.push(frame)) await new Promise<void>((resolve) => (goOn = resolve));
    }
    if (keyGone?.aborted) stream.push(eventFrame(null, brokenStatus(SallyportError.from(keyGone.reason))));
    stream.push(null);
  };
  fill().catch((error: unknown) => stream.destroy(error as Error));
  return stream;
}

/**
 * Answers with a stream of frames, which are made as fast as the client takes them. They have to end by themselves when
 * its key is gone, as those of what `OpenRuns` follows do; the last event then says so. Throws `invalid_key` when it is
 * gone already.
 */
export function sendFrames(reply: FastifyReply, frames: AsyncIterable<string | Buffer>): FastifyReply {
  const { keyGone } = reply.request;
  keyGone?.throwIfAborted();
  reply.headers(streamHeaders);
  return reply.send(streamOf(frames, keyGone));
}

/** What waiting for the next item came to. */
export type Pulled<T> =
  | { readonly kind: 'item'; readonly value: T }
  | { readonly kind: 'end' }
  | { readonly kind: 'silence' }
  | { readonly kind: 'left' };

/**
 * Takes items one at a time for a client that may be slow or leave. Nothing is taken before it is asked for, so a
 * client that does not read holds one item. The source is closed when the client leaves or `close` is called.
 */
export class Puller<T> {
  readonly #source: AsyncIterator<T>;
  readonly #left: AbortSignal;
  #next: Promise<IteratorResult<T>> | null = null;
  /** Ends the wait for the next item without it. */
  #giveUp: (kind: 'silence' | 'left') => void = () => undefined;
  #silence: { readonly ms: number; readonly timer: NodeJS.Timeout } | null = null;
  #closed = false;

  /** Takes from `items` until `left` is aborted. */
  constructor(items: AsyncIterable<T>, left: AbortSignal) {
    this.#source = items[Symbol.asyncIterator]();
    this.#left = left;
    if (left.aborted) this.close();
    else left.addEventListener('abort', this.close, { once: true });
  }

  /** Waits for the next item, at most `ms` milliseconds; after a silence it can be asked again. Rejects when the source fails. */
  async next(ms: number): Promise<Pulled<T>> {
    if (this.#left.aborted) return { kind: 'left' };
    this.#next ??= this.#source.next();
    this.#watch(ms);
    const { promise, resolve, reject } = Promise.withResolvers<IteratorResult<T> | 'silence' | 'left'>();
    this.#giveUp = resolve;
    this.#next.then(resolve, reject);
    const first = await promise;
    if (typeof first === 'string') return { kind: first };
    this.#next = null;
    return first.done === true ? { kind: 'end' } : { kind: 'item', value: first.value };
  }

  /** One timer serves all items, as nearly all come in time. */
  #watch(ms: number): void {
    if (this.#silence?.ms === ms) this.#silence.timer.refresh();
    else {
      clearTimeout(this.#silence?.timer);
      this.#silence = { ms, timer: setTimeout(() => this.#giveUp('silence'), ms) };
    }
  }

  /** Closes the source. It is not waited for: a source that is busy closes when it can. */
  readonly close = (): void => {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#silence?.timer);
    this.#left.removeEventListener('abort', this.close);
    if (this.#left.aborted) this.#giveUp('left');
    const ending = async () => this.#source.return?.();
    ending().catch(() => undefined); // nobody reads any more
  };
}
