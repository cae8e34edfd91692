import { parseCursor, startOfLog, type Cursor } from '@sallyport/protocol';
import type { FastifyBaseLogger, FastifyReply } from 'fastify';
import type { Engine } from '../../engine/engine.ts';
import { SallyportError } from '../../engine/errors.ts';
import type { Feed } from '../../engine/feed.ts';
import { leaveUnanswered } from '../key-watch.ts';
import type { Handlers } from '../routes.ts';
import {
  brokenStatus,
  EventStream,
  eventText,
  frameOf,
  itemFrame,
  streamHeaders,
  type Frame,
  type OpenStreams,
} from '../sse.ts';

function cursorOf(text: string | undefined): Cursor {
  if (text === undefined) return startOfLog;
  const cursor = parseCursor(text);
  if (!cursor) throw new SallyportError('bad_cursor');
  return cursor;
}

/** What streams of what happens are made of. */
export interface Watching {
  readonly streams: OpenStreams;
  readonly log: FastifyBaseLogger;
  readonly isClosing: () => boolean;
}

/**
 * The stream of whoever watches. Only the end of what is watched is told by the last line; a stream that ends without it
 * can be read on after its last cursor.
 */
class Watcher<T> extends EventStream<T> {
  readonly #watching: Watching;
  readonly #frameOf: (item: T) => Frame;

  constructor(reply: FastifyReply, watching: Watching, frame: (item: T) => Frame) {
    super(reply, watching.streams);
    this.#watching = watching;
    this.#frameOf = frame;
  }

  protected override frameOf(item: T): Frame {
    return this.#frameOf(item);
  }

  end(): void {
    this.close(null, true);
  }

  fail(thrown: unknown): void {
    const error = SallyportError.from(thrown);
    if (error.status >= 500) this.#watching.log.error({ err: thrown }, 'a stream broke off');
    this.close(frameOf(eventText(null, brokenStatus(error))), false);
  }
}

/** Answers with what is told, at once with a comment. */
export function streamFeed<T>(
  reply: FastifyReply,
  feed: Feed<T>,
  frame: (item: T) => Frame,
  watching: Watching,
): FastifyReply {
  if (watching.isClosing()) throw new SallyportError('not_ready');
  if (reply.raw.destroyed) return leaveUnanswered(reply);
  const watcher = new Watcher(reply, watching, frame);
  watcher.greet();
  watcher.follow(feed);
  return reply;
}

/** Follows a conversation for a client, as long as it stays, its key is valid and the service is not closing. */
export function eventsHandler(engine: Engine, watching: Watching): Handlers['conversationEvents'] {
  return async ({ request, reply, principal, params, query }) => {
    const after = cursorOf(request.headers['last-event-id']?.toString() ?? query.after);
    if (request.method === 'HEAD') {
      await engine.conversation(principal, params.session_id);
      return reply.headers(streamHeaders).send('');
    }
    const follow = query.follow === 'true';
    const feed: Feed = await engine.events(principal, params.session_id, { after, follow });
    return streamFeed(reply, feed, itemFrame, watching);
  };
}
