import { StreamProjector, type Cursor, type LogEvent, type StreamItem } from '@sallyport/protocol';
import { feed, type Feed, type Following, type Reader } from './feed.ts';
import type { Ending, LiveLog, Step, Subscriber } from './live.ts';
import type { TurnStore } from './ports.ts';

const page = 200;

/** What is followed: a conversation's log in the store and its moving end. */
export interface Followed {
  readonly store: Pick<TurnStore, 'read'>;
  readonly tenant: string;
  readonly conversation: string;
  readonly live: LiveLog;
  /** The event after which nothing is wanted any more; null: there is none. */
  readonly isLast: ((event: LogEvent) => boolean) | null;
  /** False: stops when all there is was given. */
  readonly wait: boolean;
  /** True: is told before all others, as whoever runs the turn. */
  readonly first?: boolean;
  /** Called once, when the following is over. */
  readonly left?: () => void;
  /** Aborting it ends the events. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * The wire events of a conversation after a cursor. Reads the log first and the moving end then; a reader that is too slow
 * reads the log again, so that nothing is lost and nothing is kept for it.
 */
export function follow(followed: Followed, after: Cursor): Feed {
  return feed((reader) => followFor(reader, followed, after));
}

/** Follows for a reader, as `follow` does. */
export function followFor(reader: Reader, followed: Followed, after: Cursor): Following {
  return new Follower(followed, after, reader);
}

/**
 * `reads`: it takes the log, and what is published meanwhile is read then. `waits`: its reader has enough. `behind`: and
 * something was published since. `over`: its reader was told the end, or has left.
 */
type State = 'reads' | 'in step' | 'waits' | 'behind' | 'over';

class Follower implements Following, Subscriber {
  readonly #followed: Followed;
  readonly #reader: Reader;
  readonly #projector: StreamProjector;
  #state: State = 'reads';
  /** Number of the last status it was told. */
  #status = 0;
  /** Resolves the wait of a reading in the middle of the log. */
  #room: (() => void) | null = null;
  /** What came while it was not in step. */
  #ending: Ending | null = null;

  constructor(followed: Followed, after: Cursor, reader: Reader) {
    this.#followed = followed;
    this.#reader = reader;
    this.#projector = new StreamProjector(after);
    followed.live.subscribe(this, followed.first ?? false);
    followed.signal?.addEventListener('abort', () => this.#end(null), { once: true });
    if (followed.signal?.aborted) this.#end(null);
    else void this.#read();
  }

  goOn(): void {
    if (this.#room) this.#room();
    else if (this.#state === 'waits') this.#state = 'in step';
    else if (this.#state === 'behind') void this.#read();
  }

  stop(): void {
    if (this.#state === 'over') return;
    this.#state = 'over';
    this.#followed.live.unsubscribe(this);
    this.#room?.();
    this.#followed.left?.();
  }

  told(step: Step): void {
    if (this.#state === 'waits') this.#state = 'behind';
    if (this.#state !== 'in step') return;
    const { isLast } = this.#followed;
    // Others have written, or it has missed something.
    if ('event' in step && step.event.seq > this.#projector.seq + 1) {
      void this.#read();
      return;
    }
    const item = this.#itemOf(step);
    if (item) this.#offer(item);
    if ('event' in step && isLast?.(step.event)) this.#end(null);
  }

  ended(ending: Ending): void {
    this.#ending = ending;
    if (this.#state === 'in step') this.#end(ending);
    else if (this.#state === 'waits') this.#state = 'behind';
  }

  #end(ending: Ending | null): void {
    if (this.#state === 'over') return;
    this.stop();
    if (ending && 'failed' in ending) this.#reader.fail(ending.failed);
    else this.#reader.end();
  }

  /** What a step says to the reader: the item that all share who are in step with it, else one of its own. */
  #itemOf(step: Step): StreamItem | null {
    if ('status' in step) {
      if (step.status <= this.#status) return null;
      this.#status = step.status;
    }
    const { seq, chars } = this.#projector;
    if (step.from.seq === seq && step.from.chars === chars) {
      this.#projector.moveTo(step.to);
      return step.item;
    }
    if ('status' in step) return null; // of what is over
    if ('event' in step) return this.#projector.log(step.event);
    // Of a block that is over: it was read with the log.
    return step.from.seq === seq ? this.#projector.delta(step.delta) : null;
  }

  /** Takes what the log has beyond the reader, and then what is open: a block, or a wait. Then it is in step. */
  async #read(): Promise<void> {
    this.#state = 'reads';
    try {
      if (await this.#takeLog()) this.#end(null);
    } catch (error) {
      this.#end({ failed: error });
    }
  }

  /** True when the last event was among it, or no more is wanted. */
  async #takeLog(): Promise<boolean> {
    const { store, tenant, conversation, live, isLast, wait } = this.#followed;
    for (;;) {
      const known = live.events;
      const events = await store.read(tenant, conversation, this.#projector.seq, page);
      for (const event of events) {
        if (this.#isOver) return false;
        const item = this.#projector.log(event);
        if (item) await this.#give(item);
        if (isLast?.(event)) return true;
      }
      if (this.#isOver) return false;
      if (events.length < page && known === live.events) break;
    }
    this.#state = 'in step';
    this.#takeOpen();
    const ending = this.#ending ?? live.failure;
    if (ending) this.#end(ending);
    return !wait;
  }

  #takeOpen(): void {
    const { live } = this.#followed;
    const open = live.openBlock();
    // Another block than that after the events that were read comes with the steps that are published.
    const text = open && open.seq === this.#projector.seq ? this.#projector.delta(open) : null;
    if (text) this.#offer(text);
    const { standing } = live;
    // Who comes when the wait is over is not told of it.
    const status = standing && (standing.waits || this.#status > 0) ? this.#itemOf(standing) : null;
    if (status) this.#offer(status);
  }

  #offer(item: StreamItem): void {
    if (this.#state !== 'over' && !this.#reader.take(item) && !this.#isOver) this.#state = 'waits';
  }

  /** Gives an item of the log; waits when the reader has enough then. */
  async #give(item: StreamItem): Promise<void> {
    if (this.#reader.take(item, true)) return;
    await new Promise<void>((resolve) => (this.#room = resolve));
    this.#room = null;
  }

  get #isOver(): boolean {
    return this.#state === 'over';
  }
}
