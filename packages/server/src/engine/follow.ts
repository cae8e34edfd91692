import { StreamProjector, type Cursor, type StreamItem } from '@sallyport/protocol';
import type { LiveTurn } from './live.ts';
import type { TurnStore } from './ports.ts';

const page = 200;

/** What is followed: one turn of a conversation, its log in the store and its moving end. */
export interface Followed {
  readonly store: TurnStore;
  readonly tenant: string;
  readonly conversation: string;
  readonly turn: string;
  readonly live: LiveTurn;
}

/**
 * Yields the wire events of a turn after a cursor up to and with its result. Reads the log first and the moving end
 * then; a reader too slow for its queue reads the log again, so that nothing is lost and memory stays bounded.
 */
export async function* follow(followed: Followed, after: Cursor): AsyncGenerator<StreamItem, void, undefined> {
  const { store, tenant, conversation, turn, live } = followed;
  const projector = new StreamProjector(after);
  const subscription = live.subscribe();
  try {
    for (let reread = true; ;) {
      if (reread) {
        for (;;) {
          const events = await store.read(tenant, conversation, projector.cursor.seq, page);
          for (const event of events) {
            const item = projector.log(event);
            if (item) yield item;
            if (event.body.type === 'result' && event.turn === turn) return;
          }
          if (events.length < page) break;
        }
        const open = live.openBlock();
        const item = open && projector.delta(open);
        if (item) yield item;
        reread = false;
      }
      const next = await subscription.next();
      if ('failed' in next) throw next.failed;
      if ('gap' in next || ('event' in next && next.event.seq > projector.cursor.seq + 1)) {
        reread = true;
        continue;
      }
      const item = 'event' in next ? projector.log(next.event) : projector.delta(next.delta);
      if (item) yield item;
      if ('event' in next && next.event.body.type === 'result' && next.event.turn === turn) return;
    }
  } finally {
    subscription.close();
  }
}
