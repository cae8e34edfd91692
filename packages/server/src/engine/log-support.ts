import { startOfLog, type Cursor, type LogEvent, type LogEventBody, type StreamItem } from '@sallyport/protocol';
import { systemClock } from './clock.ts';
import type { Feed } from './feed.ts';
import { follow } from './follow.ts';
import { LiveLog } from './live.ts';
import { StaleEpochError, type TurnCounters, type TurnEnd, type TurnRef } from './ports.ts';
import { TurnLog, type LogWriter } from './turn-log.ts';

/** Resolves when everything that can go on by itself has gone on a bit. */
export const soon = () => new Promise<void>((resolve) => setImmediate(resolve));

/** A conversation's log in memory, with one turn. */
export class MemoryLog implements LogWriter {
  readonly events: LogEvent[] = [];
  /** What else was written: states and counters, in order. */
  readonly notes: unknown[] = [];
  /** Awaited by every write; what it throws is the write's failure. */
  pause: () => Promise<unknown> = async () => undefined;
  #epoch = 0;
  #ended = false;

  /** Makes whoever has written so far stale. */
  takeOver(): TurnRef {
    this.#epoch += 1;
    return { tenant: 'default', conversation: 'conv-1', turn: 'turn-1', epoch: this.#epoch };
  }

  begin = async (ref: TurnRef): Promise<void> => {
    await this.#mayWrite(ref);
  };

  append = async (
    ref: TurnRef,
    at: number,
    bodies: readonly LogEventBody[],
    state?: 'running' | 'waiting',
  ): Promise<LogEvent[]> => {
    await this.#mayWrite(ref);
    if (state) this.notes.push(state);
    const events = bodies.map((body, index) => ({ seq: this.events.length + index + 1, turn: ref.turn, at, body }));
    this.events.push(...events);
    return events;
  };

  count = async (ref: TurnRef, counters: TurnCounters): Promise<void> => {
    await this.#mayWrite(ref);
    this.notes.push(counters);
  };

  finish = async (ref: TurnRef, end: TurnEnd): Promise<LogEvent> => {
    const [event] = await this.append(ref, end.at, [{ type: 'result', result: end.result, code: end.code }]);
    this.#ended = true;
    return event as LogEvent;
  };

  read = async (_tenant: string, _conversation: string, after: number, limit: number): Promise<LogEvent[]> => {
    await soon();
    return this.events.slice(after, after + limit);
  };

  async #mayWrite(ref: TurnRef): Promise<void> {
    await this.pause();
    if (ref.epoch !== this.#epoch || this.#ended) throw new StaleEpochError(ref);
  }
}

/** One process's side of a turn: who writes it and whoever follows there. */
export class Side {
  readonly live = new LiveLog();
  readonly ref: TurnRef;
  readonly log: TurnLog;
  readonly #store: MemoryLog;

  /** `accepted`: the events that were committed with the turn. */
  constructor(store: MemoryLog, accepted: readonly LogEvent[] = []) {
    this.#store = store;
    this.ref = store.takeOver();
    this.log = new TurnLog(store, systemClock, this.ref, this.live, { actor: 'key', configuration: 'c' });
    for (const event of accepted) this.live.event(event);
  }

  /** The wire events after a cursor, to the `result` or, without waiting, as far as they go; told before others, or with them. */
  read(after: Cursor = startOfLog, wait = true, first = true): AsyncGenerator<StreamItem, void, undefined> {
    const isLast = ({ body }: LogEvent) => body.type === 'result';
    const { live } = this;
    const followed = { store: this.#store, tenant: 'default', conversation: 'conv-1', live, wait, first, isLast };
    return itemsOf(follow(followed, after));
  }
}

/** What a feed tells, from now on. */
export async function* itemsOf(items: Feed): AsyncGenerator<StreamItem, void, undefined> {
  yield* items;
}

/** Takes all items, with a pause after each. */
export async function collect(
  items: AsyncIterable<StreamItem>,
  pause: () => Promise<unknown> = async () => undefined,
): Promise<StreamItem[]> {
  const all: StreamItem[] = [];
  for await (const item of items) {
    all.push(item);
    await pause();
  }
  return all;
}

/** What a client has that knows no more than to join, and to drop at `restart` what it joined since the last event that is no delta. */
export function joined(items: readonly StreamItem[]): { content: string; thinking: string } {
  const kept = { content: '', thinking: '' };
  let mark = { ...kept };
  for (const { event: sent } of items) {
    const event = JSON.parse(JSON.stringify(sent)) as typeof sent;
    if (event.type === 'text_delta') kept.content += event.content;
    else if (event.type === 'thinking_delta') kept.thinking += event.thinking;
    else {
      if (event.type === 'restart') Object.assign(kept, mark);
      mark = { ...kept };
    }
  }
  return kept;
}

/** True when every cursor is beyond the one before it; that of a status, which is not of the log, may be the same. */
export function goesOn(items: readonly StreamItem[]): boolean {
  return items.every(({ cursor, event }, index) => {
    const before = items[index - 1]?.cursor ?? { seq: 0, chars: -1 };
    return (
      cursor.seq > before.seq ||
      (cursor.seq === before.seq && cursor.chars > before.chars - (event.type === 'status' ? 1 : 0))
    );
  });
}
