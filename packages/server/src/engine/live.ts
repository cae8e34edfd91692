import {
  startOfLog,
  StreamProjector,
  type Cursor,
  type Delta,
  type LogEvent,
  type StreamItem,
  type TurnStatus,
} from '@sallyport/protocol';
import { eachInSlices } from './slices.ts';

/**
 * A step of the moving end of a log: what happened, and the cursor before and after it. `item` is what whoever was at
 * `from` is told, one object for all of them, so that it is written out once; null when that is nothing. `status` is the
 * number of a status, later ones have higher ones.
 */
export type Step = { readonly from: Cursor; readonly to: Cursor; readonly item: StreamItem | null } & (
  | { readonly event: LogEvent }
  | { readonly delta: Delta }
  | { readonly status: number; readonly waits: boolean }
);

/** The end of what is told. `failed`: the end of a turn could not be stored, so no `result` will come. */
export type Ending = { readonly over: true } | { readonly failed: unknown };

/** Whoever is told what happens. None of its functions may throw. */
export interface Subscriber {
  told(step: Step): void;
  ended(ending: Ending): void;
}

/**
 * The moving end of a conversation's log: what is published reaches every subscriber in order, and the open block is
 * kept. Nothing is kept for a subscriber: who could not take a step has to read the log. Pieces of a block that come in
 * the same tick of the event loop are one step, told at its end or before whatever comes next.
 */
export class LiveLog {
  /** Whoever runs the turn: told at once, before all others. */
  readonly #first = new Set<Subscriber>();
  /** Told together and in slices, however many they are; what was published meanwhile comes together. */
  readonly #others = new Set<Subscriber>();
  #untold: (Step | Ending)[] = [];
  #telling = false;
  /** Stands at the last event that was published; at the start of the log when that is not known. */
  #projector = new StreamProjector(startOfLog);
  #open: { readonly block: Delta['block']; text: string } | null = null;
  /** What of the open block is not told yet; empty: nothing. */
  #piece = '';
  #failure: Ending | null = null;
  #events = 0;
  #statuses = 0;
  /** What was told last of where the turn stands, since the last event. */
  #standing: Extract<Step, { status: number }> | null = null;

  /** Publishes a piece of the block that is open, opening one when none is. */
  delta(block: Delta['block'], text: string): void {
    this.#open ??= { block, text: '' };
    this.#open.text += text;
    if (this.#piece === '' && text !== '') process.nextTick(LiveLog.#tellPiece, this);
    this.#piece += text;
  }

  static #tellPiece(this: void, live: LiveLog): void {
    live.#flush();
  }

  /** Tells what of the open block is not told yet. */
  #flush(): void {
    const [open, text] = [this.#open, this.#piece];
    if (open === null || text === '') return;
    this.#piece = '';
    const delta: Delta = { block: open.block, offset: open.text.length - text.length, text };
    const from = this.#projector.cursor;
    const item = this.#projector.delta(delta);
    this.#tell({ from, to: this.#projector.cursor, item, delta });
  }

  /** Publishes where the turn stands. Whoever comes to follow while it waits is told too. */
  status(status: TurnStatus): void {
    this.#flush();
    this.#statuses += 1;
    const { cursor } = this.#projector;
    const item = this.#projector.status(status);
    this.#standing = { from: cursor, to: cursor, item, status: this.#statuses, waits: status.status === 'queued' };
    this.#tell(this.#standing);
  }

  /** Publishes a committed event. */
  event(event: LogEvent): void {
    this.#flush();
    const { type } = event.body;
    if (type === 'text' || type === 'thinking' || type === 'restart' || type === 'result') this.#open = null;
    // Others have written since the last one: a follower that has not read them is not at this step.
    if (event.seq !== this.#projector.cursor.seq + 1) {
      this.#projector = new StreamProjector({ seq: event.seq - 1, chars: 0 });
    }
    this.#events += 1;
    this.#standing = null;
    const from = this.#projector.cursor;
    const item = this.#projector.log(event);
    this.#tell({ from, to: this.#projector.cursor, item, event });
  }

  /** Tells every subscriber, later ones too, that no result will come. */
  fail(error: unknown): void {
    this.#flush();
    this.#standing = null;
    this.#failure = { failed: error };
    this.#tell(this.#failure);
  }

  /** Tells every subscriber that nothing comes any more. */
  end(): void {
    this.#flush();
    this.#tell({ over: true });
  }

  /** Where the log ends, as far as was published; 0 when that is not known. */
  get seq(): number {
    return this.#projector.cursor.seq;
  }

  /** Says where the log ends, of which nothing that is still open was published here. */
  standAt(seq: number): void {
    this.#flush();
    this.#projector = new StreamProjector({ seq, chars: 0 });
    this.#open = null;
    this.#standing = null;
  }

  /** The block that is open, as one delta from its beginning, and `seq` of the last event before it or inside it. */
  openBlock(): (Delta & { readonly seq: number }) | null {
    return this.#open && { ...this.#open, offset: 0, seq: this.#projector.cursor.seq };
  }

  /** What was told last of where the turn stands; null when an event has come since. */
  get standing(): Extract<Step, { status: number }> | null {
    return this.#standing;
  }

  /** What was told last of a turn that waits for its process; null when none does. */
  queued(): Step | null {
    return this.#standing?.waits ? this.#standing : null;
  }

  /** That no result will come; null while that is not known. */
  get failure(): Ending | null {
    return this.#failure;
  }

  /** How many events were published so far. */
  get events(): number {
    return this.#events;
  }

  /** `first`: it is told at once, before all others, as whoever runs the turn. */
  subscribe(subscriber: Subscriber, first: boolean): void {
    this.#flush();
    (first ? this.#first : this.#others).add(subscriber);
  }

  unsubscribe(subscriber: Subscriber): void {
    this.#first.delete(subscriber);
    this.#others.delete(subscriber);
  }

  #tell(what: Step | Ending): void {
    for (const one of this.#first) tell(one, what);
    if (this.#others.size === 0) return;
    const last = this.#untold.at(-1);
    const joined = last && joinedDelta(last, what);
    if (joined) this.#untold[this.#untold.length - 1] = joined;
    else this.#untold.push(what);
    if (this.#telling) return;
    this.#telling = true;
    setImmediate(() => this.#tellOthers());
  }

  #tellOthers(): void {
    const steps = this.#untold;
    this.#untold = [];
    const toldAll = () => {
      this.#telling = this.#untold.length > 0;
      if (this.#telling) setImmediate(() => this.#tellOthers());
    };
    const tellOne = (one: Subscriber) => {
      for (const step of steps) tell(one, step);
    };
    eachInSlices(this.#others, tellOne, toldAll);
  }
}

function tell(one: Subscriber, what: Step | Ending): void {
  if ('from' in what) one.told(what);
  else one.ended(what);
}

/** Two pieces of a block, one right after the other, as one. */
function joinedDelta(first: Step | Ending, second: Step | Ending): Step | null {
  if (!('delta' in first && 'delta' in second)) return null;
  if (first.to.seq !== second.from.seq || first.to.chars !== second.from.chars) return null;
  const delta = { ...first.delta, text: first.delta.text + second.delta.text };
  const item = new StreamProjector(first.from).delta(delta);
  return { from: first.from, to: second.to, item, delta };
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
