import { StreamProjector, type Cursor, type LogEvent, type StreamItem } from '@sallyport/protocol';
import type { LiveLog, Step, Subscription } from './live.ts';
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
  const leave = () => subscription.push({ over: true });
  followed.signal?.addEventListener('abort', leave, { once: true });
  if (followed.signal?.aborted) leave();
  try {
    yield* read(followed, new StreamProjector(after), subscription);
  } finally {
    followed.signal?.removeEventListener('abort', leave);
    subscription.close();
  }
}

async function* read(
  followed: Followed,
  projector: StreamProjector,
  subscription: Subscription,
): AsyncGenerator<StreamItem, void, undefined> {
  if (yield* stored(followed, projector)) return;
  while (followed.wait) {
    const next = await subscription.next();
    if ('over' in next) return;
    if ('failed' in next) throw next.failed;
    if ('gap' in next || ('event' in next && next.event.seq > projector.cursor.seq + 1)) {
      if (yield* stored(followed, projector)) return;
      continue;
    }
    const item = take(next, projector);
    if (item) yield item;
    if ('event' in next && followed.isLast(next.event)) return;
  }
}

/** What a step says to whoever has read as far as the projector: the item that all share who are in step with it, else one of its own. */
function take(step: Step, projector: StreamProjector): StreamItem | null {
  const { seq, chars } = projector.cursor;
  if (step.from.seq === seq && step.from.chars === chars) {
    projector.moveTo(step.to);
    return step.item;
  }
  if ('event' in step) return projector.log(step.event);
  // Of a block that is over: it was read with the log.
  return step.from.seq === seq ? projector.delta(step.delta) : null;
}

/** Yields what the log has beyond the projector, and then the block that is open. True when the last event was among it. */
async function* stored(followed: Followed, projector: StreamProjector): AsyncGenerator<StreamItem, boolean, undefined> {
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
  return false;
}
