import { StreamProjector, type Cursor, type LogEvent, type StreamItem } from '@sallyport/protocol';
import type { LiveLog, Step } from './live.ts';
import type { TurnStore } from './ports.ts';

const page = 200;

/** What is followed: a conversation's log in the store and its moving end. */
export interface Followed {
  readonly store: Pick<TurnStore, 'read'>;
  readonly tenant: string;
  readonly conversation: string;
  readonly live: LiveLog;
  /** The event after which nothing is wanted any more. */
  readonly isLast: (event: LogEvent) => boolean;
  /** False: stops when all there is was given. */
  readonly wait: boolean;
  /** Aborting it ends the reading. */
  readonly signal?: AbortSignal;
}

/**
 * Yields the wire events of a conversation after a cursor. Reads the log first and the moving end then; a reader too
 * slow for its queue reads the log again, so that nothing is lost and memory stays bounded.
 */
export async function* follow(followed: Followed, after: Cursor): AsyncGenerator<StreamItem, void, undefined> {
  const subscription = followed.live.subscribe();
  const reader = { projector: new StreamProjector(after), status: 0 };
  const leave = () => subscription.push({ over: true });
  followed.signal?.addEventListener('abort', leave, { once: true });
  if (followed.signal?.aborted) leave();
  try {
    if (yield* stored(followed, reader)) return;
    // One generator and no more: this is done for every delta and follower.
    while (followed.wait) {
      const next = await subscription.next();
      if ('over' in next) return;
      if ('failed' in next) throw next.failed;
      if ('gap' in next || ('event' in next && next.event.seq > reader.projector.cursor.seq + 1)) {
        if (yield* stored(followed, reader)) return;
        continue;
      }
      const item = take(next, reader);
      if (item) yield item;
      if ('event' in next && followed.isLast(next.event)) return;
    }
  } finally {
    followed.signal?.removeEventListener('abort', leave);
    subscription.close();
  }
}

/** How far somebody has read: in the log, and the number of the last status. */
interface Reader {
  readonly projector: StreamProjector;
  status: number;
}

/** What a step says to a reader: the item that all share who are in step with it, else one of its own. */
function take(step: Step, reader: Reader): StreamItem | null {
  const { projector } = reader;
  const { seq, chars } = projector.cursor;
  if ('status' in step) {
    if (step.status <= reader.status) return null;
    reader.status = step.status;
  }
  if (step.from.seq === seq && step.from.chars === chars) {
    projector.moveTo(step.to);
    return step.item;
  }
  if ('status' in step) return null; // of what is over
  if ('event' in step) return projector.log(step.event);
  // Of a block that is over: it was read with the log.
  return step.from.seq === seq ? projector.delta(step.delta) : null;
}

/** Yields what the log has beyond the reader, and then what is open: a block, or a wait. True when the last event was among it. */
async function* stored(followed: Followed, reader: Reader): AsyncGenerator<StreamItem, boolean, undefined> {
  const { projector } = reader;
  const { store, tenant, conversation, live } = followed;
  for (;;) {
    const events = await store.read(tenant, conversation, projector.cursor.seq, page);
    for (const event of events) {
      const item = projector.log(event);
      if (item) yield item;
      if (followed.isLast(event)) return true;
    }
    if (events.length < page) break;
  }
  // Another block than that after the events that were read comes with the steps that were published since.
  const open = live.openBlock();
  const item = open && open.seq === projector.cursor.seq ? projector.delta(open) : null;
  if (item) yield item;
  const queued = live.queued();
  const status = queued && take(queued, reader);
  if (status) yield status;
  return false;
}
