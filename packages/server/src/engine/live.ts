import {
  startOfLog,
  StreamProjector,
  type Cursor,
  type Delta,
  type LogEvent,
  type StreamItem,
  type TurnStatus,
} from '@sallyport/protocol';

/**
 * A step of the moving end of a log: what happened, and the cursor before and after it. `item` is what whoever was at
 * `from` is told, one object for all of them, so that it is written out once; null when that is nothing. `status` is the
 * number of a status, later ones have higher ones.
 */
export type Step = { readonly from: Cursor; readonly to: Cursor; readonly item: StreamItem | null } & (
  | { readonly event: LogEvent }
  | { readonly delta: Delta }
  | { readonly status: number }
);

/**
 * What a follower is told. `gap`: it was too slow and must read the log again. `over`: nothing comes any more. `failed`:
 * the end of a turn could not be stored, so no `result` will come.
 */
export type LiveItem = Step | { readonly gap: true } | { readonly over: true } | { readonly failed: unknown };

const queueLimit = 512;

/** One reader's queue: bounded, and replaced by a gap when the reader is too slow. */
export class Subscription {
  #items: LiveItem[] = [];
  #wake: ((item: LiveItem) => void) | null = null;
  #ended = false;
  readonly #leave: (subscription: Subscription) => void;

  constructor(leave: (subscription: Subscription) => void) {
    this.#leave = leave;
  }

  /** Nothing is taken after `over` or `failed`. */
  push(item: LiveItem): void {
    if (this.#ended) return;
    this.#ended = 'over' in item || 'failed' in item;
    if (this.#wake) {
      this.#wake(item);
      this.#wake = null;
    } else if (this.#items.length >= queueLimit && !this.#ended) this.#items = [{ gap: true }];
    else this.#items.push(item);
  }

  /** The next item; waits for one. Ask again only when it has come. */
  next(): Promise<LiveItem> {
    const item = this.#items.shift();
    return item ? Promise.resolve(item) : new Promise((resolve) => (this.#wake = resolve));
  }

  close(): void {
    this.#leave(this);
  }
}

/** The moving end of a conversation's log: what is published reaches every follower in order, and the open block is kept. */
export class LiveLog {
  readonly #followers = new Set<Subscription>();
  /** Stands at the last event that was published; at the start of the log when that is not known. */
  #projector = new StreamProjector(startOfLog);
  #open: { readonly block: Delta['block']; text: string } | null = null;
  #failure: { readonly failed: unknown } | null = null;
  #statuses = 0;
  /** What was told last of a turn that waits for its process. */
  #queued: Step | null = null;

  /** Publishes a piece of the block that is open, opening one when none is. */
  delta(block: Delta['block'], text: string): void {
    this.#open ??= { block, text: '' };
    const delta: Delta = { block, offset: this.#open.text.length, text };
    this.#open.text += text;
    const from = this.#projector.cursor;
    const item = this.#projector.delta(delta);
    this.#push({ from, to: this.#projector.cursor, item, delta });
  }

  /** Publishes where the turn stands. Whoever comes to follow while it waits is told too. */
  status(status: TurnStatus): void {
    this.#statuses += 1;
    const { cursor } = this.#projector;
    const step = { from: cursor, to: cursor, item: this.#projector.status(status), status: this.#statuses };
    this.#queued = status.status === 'queued' ? step : null;
    this.#push(step);
  }

  /** Publishes a committed event. */
  event(event: LogEvent): void {
    const { type } = event.body;
    if (type === 'text' || type === 'thinking' || type === 'restart' || type === 'result') this.#open = null;
    // Others have written since the last one: a follower that has not read them is not at this step.
    if (event.seq !== this.#projector.cursor.seq + 1) {
      this.#projector = new StreamProjector({ seq: event.seq - 1, chars: 0 });
    }
    this.#queued = null;
    const from = this.#projector.cursor;
    const item = this.#projector.log(event);
    this.#push({ from, to: this.#projector.cursor, item, event });
  }

  /** Tells every follower, later ones too, that no result will come. */
  fail(error: unknown): void {
    this.#queued = null;
    this.#failure = { failed: error };
    this.#push(this.#failure);
  }

  /** Tells every follower that nothing comes any more. */
  end(): void {
    this.#push({ over: true });
  }

  /** The block that is open, as one delta from its beginning, and `seq` of the last event before it or inside it. */
  openBlock(): (Delta & { readonly seq: number }) | null {
    return this.#open && { ...this.#open, offset: 0, seq: this.#projector.cursor.seq };
  }

  /** What was told last of a turn that waits for its process; null when none does. */
  queued(): Step | null {
    return this.#queued;
  }

  subscribe(): Subscription {
    const subscription = new Subscription((gone) => this.#followers.delete(gone));
    this.#followers.add(subscription);
    if (this.#failure) subscription.push(this.#failure);
    return subscription;
  }

  #push(item: LiveItem): void {
    for (const follower of this.#followers) follower.push(item);
  }
}

/** The moving ends that somebody writes or follows. */
export class LiveLogs {
  readonly #entries = new Map<string, { readonly log: LiveLog; users: number }>();

  /** The moving end of a conversation; every use must be given back with `release`. */
  acquire(tenant: string, conversation: string): LiveLog {
    const key = JSON.stringify([tenant, conversation]);
    const entry = this.#entries.get(key) ?? { log: new LiveLog(), users: 0 };
    entry.users += 1;
    this.#entries.set(key, entry);
    return entry.log;
  }

  release(tenant: string, conversation: string): void {
    const key = JSON.stringify([tenant, conversation]);
    const entry = this.#entries.get(key);
    if (entry && (entry.users -= 1) === 0) this.#entries.delete(key);
  }

  /** Tells the followers of a conversation that it is over. */
  end(tenant: string, conversation: string): void {
    this.#entries.get(JSON.stringify([tenant, conversation]))?.log.end();
  }
}
