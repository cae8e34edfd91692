import type { Delta, LogEvent } from '@sallyport/protocol';

/**
 * What a follower is told. `gap`: it was too slow and must read the log again. `over`: nothing comes any more. `failed`:
 * the end of a turn could not be stored, so no `result` will come.
 */
export type LiveItem =
  | { readonly event: LogEvent }
  | { readonly delta: Delta }
  | { readonly gap: true }
  | { readonly over: true }
  | { readonly failed: unknown };

const queueLimit = 512;

/** One reader's queue: bounded, and replaced by a gap when the reader is too slow. */
export class Subscription {
  #items: LiveItem[] = [];
  #wake: (() => void) | null = null;
  readonly #leave: (subscription: Subscription) => void;

  constructor(leave: (subscription: Subscription) => void) {
    this.#leave = leave;
  }

  push(item: LiveItem): void {
    if (this.#items.length >= queueLimit && !('failed' in item || 'over' in item)) this.#items = [{ gap: true }];
    else this.#items.push(item);
    this.#wake?.();
    this.#wake = null;
  }

  /** The next item; waits for one. */
  async next(): Promise<LiveItem> {
    for (;;) {
      const item = this.#items.shift();
      if (item) return item;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  close(): void {
    this.#leave(this);
  }
}

/** The moving end of a conversation's log: what is published reaches every follower in order, and the open block is kept. */
export class LiveLog {
  readonly #followers = new Set<Subscription>();
  #open: { block: Delta['block']; text: string } | null = null;
  #failure: { readonly failed: unknown } | null = null;

  /** Publishes a piece of the block that is open, opening one when none is. */
  delta(block: Delta['block'], text: string): void {
    if (this.#open?.block !== block) this.#open = { block, text: '' };
    const delta: Delta = { block, offset: this.#open.text.length, text };
    this.#open.text += text;
    this.#push({ delta });
  }

  /** Publishes a committed event. */
  event(event: LogEvent): void {
    const { type } = event.body;
    if (type === 'text' || type === 'thinking' || type === 'restart' || type === 'result') this.#open = null;
    this.#push({ event });
  }

  /** Tells every follower, later ones too, that no result will come. */
  fail(error: unknown): void {
    this.#failure = { failed: error };
    this.#push(this.#failure);
  }

  /** Tells every follower that nothing comes any more. */
  end(): void {
    this.#push({ over: true });
  }

  /** The block that is open, as one delta from its beginning. */
  openBlock(): Delta | null {
    return this.#open && { block: this.#open.block, offset: 0, text: this.#open.text };
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
