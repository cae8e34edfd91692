import { setImmediate } from 'node:timers/promises';
import type { Delta, LogEvent, LogEventBody, TurnStatus } from '@sallyport/protocol';
import { auditOf, type Stamp } from './audit.ts';
import type { Clock } from './clock.ts';
import type { LiveLog } from './live.ts';
import { StaleEpochError, type TurnCounters, type TurnEnd, type TurnRef, type TurnStore } from './ports.ts';

/** Longest that an event waits for the end of the open block, in milliseconds: far less than a tool call waits for its decision. */
const holdMs = 20_000;

/** What of the store a turn is written with. */
export type LogWriter = Pick<TurnStore, 'begin' | 'append' | 'count' | 'finish'>;

type Block = Extract<LogEventBody, { type: 'text' | 'thinking' }>;
const isBlock = (body: LogEventBody): body is Block => body.type === 'text' || body.type === 'thinking';
const restart: LogEventBody = { type: 'restart' };

/**
 * The one writer of a turn. Keeps what it is given in order: an event is published after its commit, and a delta after
 * the events before it. No event of another type ever gets inside an open text or thinking block, so that `restart`
 * always withdraws a block as a whole: it waits until the block was ended or withdrawn.
 */
export class TurnLog {
  readonly live: LiveLog;
  readonly #store: LogWriter;
  readonly #clock: Clock;
  readonly #ref: TurnRef;
  readonly #stamp: Stamp;
  #tail: Promise<unknown> = Promise.resolve();
  #pending = 0;
  /** The first failure: after it nothing is written any more. */
  #broken: { readonly error: unknown } | null = null;
  /** True from the first piece of a block until its end was given. */
  #open = false;
  /** What waits for the end of the open block, in order of arrival. */
  #waiting: (() => void)[] = [];
  #hold: NodeJS.Timeout | undefined;
  /** Blocks of the log since the last event of another type: what `restart` withdraws. */
  #span: Block[] = [];
  /** Blocks before those that stay whatever is withdrawn, as nobody would tell them again. */
  #kept: readonly Block[] = [];
  /** Blocks that the log holds and no `restart` has withdrawn. */
  readonly #standing = new WeakSet<Block>();

  constructor(store: LogWriter, clock: Clock, ref: TurnRef, live: LiveLog, stamp: Stamp) {
    this.live = live;
    this.#stamp = stamp;
    this.#store = store;
    this.#clock = clock;
    this.#ref = ref;
  }

  /**
   * Sets the turn to running, before anything else of it is committed. What is ready to happen now happens first: a
   * commit may keep all else waiting.
   */
  begin(): Promise<void> {
    return this.#enqueue(async () => {
      await setImmediate();
      await this.#store.begin(this.#ref, this.#clock.now());
    });
  }

  /**
   * Commits together what a turn that lost its process goes on with: a `restart` and the blocks that stay. A later
   * `restart` keeps them too.
   */
  recover(bodies: readonly LogEventBody[]): Promise<void> {
    return this.#endBlock(async () => {
      await this.#write(bodies);
      this.#kept = bodies.filter(isBlock);
      this.#span = [];
    });
  }

  /** Publishes a piece of the open block, and opens one when none is. */
  delta(block: Delta['block'], text: string): void {
    if (!this.#open) this.#release();
    this.#open = true;
    this.#publish(() => this.live.delta(block, text));
  }

  /** Publishes where the turn stands; not where clients would take it for the end of text that `restart` tells again. */
  status(status: TurnStatus): void {
    this.#publish(() => {
      const mayBeWithdrawn = this.#open || this.#broken || this.#span.length > 0 || this.#kept.length > 0;
      if (!mayBeWithdrawn) this.live.status(status);
    });
  }

  /**
   * Commits an event, and the state of the turn with it. A text or thinking block ends the open one and `restart` drops
   * it; any other event waits for that, 20 s at most. After `restart` those blocks are to be given again, at once and as
   * the same objects, that stay: of them those are committed again that it has withdrawn. Rejects when the event could
   * not be committed, and then so does every later one.
   */
  append(body: LogEventBody, state?: 'running' | 'waiting'): Promise<void> {
    if (isBlock(body)) return this.#endBlock(() => this.#block(body, state));
    if (body.type === 'restart') return this.#endBlock(() => this.#restart(state));
    return this.commit(async () => {
      const at = this.#clock.now();
      const audit = auditOf(this.#ref, this.#stamp, at, body);
      const [event = null] = await this.#store.append(this.#ref, at, [body], state, audit);
      return { event, value: undefined };
    });
  }

  /**
   * Lets `work` commit an event that is neither a block nor `restart`, in its place among the others, and publishes it.
   * Resolves with the work's value; rejects when the work does, and then nothing more is committed.
   */
  commit<T>(work: () => Promise<{ event: LogEvent | null; value: T }>): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const begin = () => void this.#enqueue(() => this.#other(work)).then(resolve, reject);
    if (!this.#open || this.#broken) {
      this.#release();
      begin();
    } else {
      this.#waiting.push(begin);
      this.#hold ??= setTimeout(() => this.#overtake(), holdMs).unref();
    }
    return promise;
  }

  /** Nothing is committed any more: the turn may be another writer's. What waits is refused. */
  close(): void {
    this.#broken ??= { error: new StaleEpochError(this.#ref) };
    this.#release();
  }

  /** Keeps how far the turn has come, after the events that were given before. */
  count(counters: TurnCounters): Promise<void> {
    return this.#enqueue(() => this.#store.count(this.#ref, counters));
  }

  /**
   * Commits the end of the turn, also after an event could not be committed. What waits is committed before it; a block
   * that never ended is withdrawn.
   */
  async finish(end: TurnEnd): Promise<LogEvent> {
    await this.#tail;
    this.#broken = null;
    this.#open = false;
    if (this.live.openBlock() !== null) void this.#enqueue(() => this.#withdraw()).catch(() => undefined);
    this.#release();
    return await this.#enqueue(async () => {
      const event = await this.#store.finish(this.#ref, end);
      this.live.event(event);
      return event;
    });
  }

  async #block(body: Block, state: 'running' | 'waiting' | undefined): Promise<void> {
    if (this.#standing.has(body)) return;
    await this.#write([body], state);
    this.#standing.add(body);
    this.#span.push(body);
  }

  async #restart(state: 'running' | 'waiting' | undefined): Promise<void> {
    for (const block of this.#span) this.#standing.delete(block);
    this.#span = [];
    await this.#write([restart, ...this.#kept], state);
  }

  async #other<T>(work: () => Promise<{ event: LogEvent | null; value: T }>): Promise<T> {
    const { event, value } = await work();
    if (event) {
      this.#span = [];
      this.#kept = [];
      this.live.event(event);
    }
    return value;
  }

  /** Withdraws the open block alone. */
  #withdraw(): Promise<void> {
    return this.#write([restart, ...this.#kept, ...this.#span]);
  }

  /** Lets what has waited too long go first: the open block is withdrawn and told again after it. */
  #overtake(): void {
    let open: Delta | null = null;
    const withdrawing = this.#enqueue(async () => {
      open = this.live.openBlock();
      await this.#withdraw();
    });
    withdrawing.catch(() => undefined);
    this.#release();
    this.#publish(() => {
      if (open && !this.#broken) this.live.delta(open.block, open.text);
    });
  }

  #release(): void {
    clearTimeout(this.#hold);
    this.#hold = undefined;
    for (const begin of this.#waiting.splice(0)) begin();
  }

  #endBlock(work: () => Promise<void>): Promise<void> {
    this.#open = false;
    const done = this.#enqueue(work);
    // What is told again after a `restart` comes before what waits.
    queueMicrotask(() => {
      if (!this.#open) this.#release();
    });
    return done;
  }

  async #write(bodies: readonly LogEventBody[], state?: 'running' | 'waiting'): Promise<void> {
    const events = await this.#store.append(this.#ref, this.#clock.now(), bodies, state);
    for (const event of events) this.live.event(event);
  }

  /** Tells after the events that were given before. */
  #publish(tell: () => void): void {
    if (this.#pending === 0) return tell();
    this.#pending += 1;
    const publish = () => {
      this.#pending -= 1;
      tell();
    };
    this.#tail = this.#tail.then(publish);
  }

  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    this.#pending += 1;
    const done = this.#tail.then(async () => {
      try {
        if (this.#broken) throw this.#broken.error;
        return await work();
      } catch (error) {
        this.#broken ??= { error };
        this.#release();
        throw error;
      } finally {
        this.#pending -= 1;
      }
    });
    this.#tail = done.catch(() => undefined);
    return done;
  }
}
