import type { LogEvent, LogEventBody } from '@sallyport/protocol';
import type { Clock } from './clock.ts';
import type { LiveLog } from './live.ts';
import type { TurnEnd, TurnRef, TurnStore } from './ports.ts';

/**
 * The one writer of a turn. Keeps what it is given in order: an event is published after its commit, and a delta after
 * the events before it.
 */
export class TurnLog {
  readonly live: LiveLog;
  readonly #store: TurnStore;
  readonly #clock: Clock;
  readonly #ref: TurnRef;
  #tail: Promise<unknown> = Promise.resolve();
  #pending = 0;
  /** The first failure: after it nothing is written any more. */
  #broken: { readonly error: unknown } | null = null;

  constructor(store: TurnStore, clock: Clock, ref: TurnRef, live: LiveLog) {
    this.live = live;
    this.#store = store;
    this.#clock = clock;
    this.#ref = ref;
  }

  /** Sets the turn to running. */
  begin(): Promise<void> {
    return this.#enqueue(() => this.#store.begin(this.#ref, this.#clock.now()));
  }

  delta(block: 'text' | 'thinking', text: string): void {
    if (this.#pending === 0) {
      this.live.delta(block, text);
      return;
    }
    this.#pending += 1;
    const publish = () => {
      this.#pending -= 1;
      this.live.delta(block, text);
    };
    this.#tail = this.#tail.then(publish);
  }

  /** Commits an event. Rejects when it could not be, and then so does every later one. */
  async append(body: LogEventBody): Promise<void> {
    await this.#enqueue(async () => {
      const events = await this.#store.append(this.#ref, this.#clock.now(), [body]);
      for (const event of events) this.live.event(event);
    });
  }

  /** Commits the end of the turn, also after an event could not be committed. */
  finish(end: TurnEnd): Promise<LogEvent> {
    this.#broken = null;
    return this.#enqueue(async () => {
      const event = await this.#store.finish(this.#ref, end);
      this.live.event(event);
      return event;
    });
  }

  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    this.#pending += 1;
    const done = this.#tail.then(async () => {
      if (this.#broken) throw this.#broken.error;
      try {
        return await work();
      } catch (error) {
        this.#broken = { error };
        throw error;
      } finally {
        this.#pending -= 1;
      }
    });
    this.#tail = done.catch(() => undefined);
    return done;
  }
}
