import { parseCursor, startOfLog, type Cursor, type StreamItem } from '@sallyport/protocol';
import type { FastifyBaseLogger } from 'fastify';
import type { Engine } from '../../engine/engine.ts';
import { SallyportError } from '../../engine/errors.ts';
import type { Handlers } from '../routes.ts';
import type { OpenRuns } from '../runs.ts';
import {
  brokenStatus,
  doneFrame,
  eventFrame,
  heartbeatFrame,
  itemFrame,
  Puller,
  sendFrames,
  streamHeaders,
} from '../sse.ts';

function cursorOf(text: string | undefined): Cursor {
  if (text === undefined) return startOfLog;
  const cursor = parseCursor(text);
  if (!cursor) throw new SallyportError('bad_cursor');
  return cursor;
}

/**
 * The frames of a conversation's events. The first is a comment, so that the head leaves at once. Only the end of the
 * conversation is told by the last line; a stream that ends without it can be read on after its last cursor.
 */
async function* framesOf(
  puller: Puller<StreamItem>,
  heartbeatMs: number,
  log: FastifyBaseLogger,
): AsyncGenerator<string | Buffer> {
  try {
    yield heartbeatFrame;
    for (;;) {
      const pulled = await puller.next(heartbeatMs);
      if (pulled.kind === 'left') return;
      if (pulled.kind === 'end') break;
      yield pulled.kind === 'silence' ? heartbeatFrame : itemFrame(pulled.value);
    }
    yield doneFrame;
  } catch (thrown) {
    const error = SallyportError.from(thrown);
    if (error.status >= 500) log.error({ err: thrown }, 'a stream broke off');
    yield eventFrame(null, brokenStatus(error));
  } finally {
    puller.close();
  }
}

/** Follows a conversation for a client, as long as it stays, its key is valid and the service is not closing. */
export function eventsHandler(engine: Engine, readers: OpenRuns, heartbeatMs: number): Handlers['conversationEvents'] {
  return async ({ request, reply, principal, params, query }) => {
    const after = cursorOf(request.headers['last-event-id']?.toString() ?? query.after);
    if (request.method === 'HEAD') {
      await engine.conversation(principal, params.session_id);
      return reply.headers(streamHeaders).send('');
    }
    const { stopped } = readers.open(reply);
    const follow = query.follow === 'true';
    const items = await engine.events(principal, params.session_id, { after, follow, signal: stopped });
    return sendFrames(reply, framesOf(new Puller(items, stopped), heartbeatMs, request.log));
  };
}
