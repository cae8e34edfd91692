import type { EngineParts, EventsRequest } from './engine.ts';
import { feed, type Feed } from './feed.ts';
import { followFor, type Followed } from './follow.ts';
import type { LiveLog, LiveLogs } from './live.ts';
import type { StoredConversation } from './ports.ts';
import type { Relay } from './relay.ts';

/** What conversations tell whoever watches them, wherever their turns run. */
export class Watching {
  readonly #parts: Pick<EngineParts, 'turns' | 'lease'>;
  readonly #logs: LiveLogs;
  readonly #relay: Pick<Relay, 'follow'>;
  /** What is followed, one for all who watch a conversation of this node to its end: they may be many. */
  readonly #followed = new WeakMap<LiveLog, Followed>();

  constructor(parts: Pick<EngineParts, 'turns' | 'lease'>, logs: LiveLogs, relay: Pick<Relay, 'follow'>) {
    this.#parts = parts;
    this.#logs = logs;
    this.#relay = relay;
  }

  /** The events of a conversation after a cursor. */
  feed(found: StoredConversation, request: EventsRequest): Feed {
    return feed((reader) => followFor(reader, this.#followedOf(found, request), request.after));
  }

  #followedOf(found: StoredConversation, { follow: wait, signal }: EventsRequest): Followed {
    const { turns: store, lease } = this.#parts;
    const { tenant, id: conversation } = found;
    const live = this.#logs.acquire(tenant, conversation);
    const isShared = wait && !signal && !lease.shared;
    const shared = isShared ? this.#followed.get(live) : undefined;
    if (shared) return shared;
    const leave = wait && lease.shared ? this.#relay.follow(found, live) : () => undefined;
    const left = () => {
      leave();
      this.#logs.release(tenant, conversation);
    };
    const followed = { store, tenant, conversation, live, wait, first: false, isLast: null, left, signal };
    if (isShared) this.#followed.set(live, followed);
    return followed;
  }
}
