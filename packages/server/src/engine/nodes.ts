import type { Clock } from './clock.ts';
import { SallyportError } from './errors.ts';
import { newId } from './ids.ts';
import type { Log, NodeRecord, NodeStore, TurnStore, UnfinishedTurn } from './ports.ts';

/** Beats within one lease; it looks at the others twice as often. */
const beatsPerLease = 10;
/** Of a lease, after how long without a beat a node gives its own up, and others take over: all goes on within a lease. */
const [heldShare, silentShare] = [0.5, 0.7];

export interface LeaseParts {
  readonly nodes: NodeStore;
  readonly turns: Pick<TurnStore, 'takeUnfinished'>;
  readonly clock: Clock;
  readonly logger: Log;
  /** Names the data directory, which this process alone may use. */
  readonly place: string;
  /** Milliseconds within which others take over; null: there are no others, and the lease never ends. */
  readonly leaseMs: number | null;
}

/** What has to be done when turns come and go. */
export interface LeaseDuties {
  /** Stops at once all that runs and commits nothing more for it. Resolves when none of its processes is left. Never rejects. */
  drop(): Promise<void>;
  /** Goes on with turns that this node has taken over. */
  takeUp(turns: readonly UnfinishedTurn[]): Promise<void>;
}

/** A node that was seen, and how long ago its beat was new here. */
interface Seen {
  readonly beat: number;
  readonly since: number;
}

/**
 * This process as one of the nodes that serve. It beats ten times in a lease. Who sees the same beat of another node for
 * most of a lease takes over from it; who could not beat for half of one has lost its own, stops what runs, and joins again
 * under a new id. All times are those of the clock that only grows.
 */
export class Lease {
  readonly #parts: LeaseParts;
  readonly #seen = new Map<string, Seen>();
  #node = newId('node');
  #duties: LeaseDuties | null = null;
  /** When the last beat that arrived was sent. */
  #beatAt = 0;
  #lost = true;
  #dropped: Promise<void> = Promise.resolve();
  #resting = false;
  #closed = false;
  /** What is under way of each loop. */
  readonly #loops = new Map<'beat' | 'look', { timer: NodeJS.Timeout; done: Promise<void> }>();
  #watching: NodeJS.Timeout | undefined;

  constructor(parts: LeaseParts) {
    this.#parts = parts;
  }

  /** The node that this process is, now. */
  get node(): string {
    return this.#node;
  }

  /** How many nodes serve, this one included, as far as it knows. */
  get count(): number {
    return this.#seen.size + 1;
  }

  /** True when there may be other nodes. */
  get shared(): boolean {
    return this.#parts.leaseMs !== null;
  }

  /** False from when others may begin to think that this node is gone until it has joined again. */
  get held(): boolean {
    return !this.#lost && !this.#isLate();
  }

  /** Throws `not_ready` while the lease is not held. */
  check(): void {
    if (!this.held) throw new SallyportError('not_ready', { cause: new Error('the lease of this node is lost') });
  }

  /** Joins, takes over what nobody runs, and goes on beating until it is closed. Rejects when it cannot join. */
  async start(duties: LeaseDuties): Promise<void> {
    const { nodes, place } = this.#parts;
    this.#duties = duties;
    const dead = await nodes.evictPlace(place);
    if (dead.length > 0) this.#parts.logger.info({ nodes: dead }, 'earlier processes of this place are gone');
    await this.#join();
    this.#schedule();
    await this.look();
  }

  /** One beat; joins again where the lease was lost. Rejects when the store cannot be asked. */
  async beat(): Promise<void> {
    this.watch();
    if (this.#lost) return await this.#rejoin();
    const sentAt = this.#parts.clock.monotonic();
    const there = await this.#parts.nodes.beat(this.#node);
    if (this.#lost) return;
    if (there) this.#beatAt = sentAt;
    else this.#lose('others have taken over');
  }

  /** Gives the lease up when its half has passed without a beat. */
  watch(): void {
    if (!this.#lost && this.#isLate()) this.#lose('no beat has arrived for half a lease');
  }

  /** Removes nodes that are lost, and takes over what nobody runs. Rejects when the store cannot be asked. */
  async look(): Promise<void> {
    if (this.#resting || !this.held) return;
    await this.#evictLost();
    const turns = await this.#parts.turns.takeUnfinished(this.#node);
    if (turns.length > 0) await this.#duties?.takeUp(turns);
  }

  /** Takes over nothing more. */
  rest(): void {
    this.#resting = true;
  }

  /** Stops beating and leaves, so that what is left of this node is taken over at once. Nothing may run any more. */
  async close(): Promise<void> {
    const { nodes, logger } = this.#parts;
    this.#closed = true;
    clearInterval(this.#watching);
    for (const { timer, done } of this.#loops.values()) {
      clearTimeout(timer);
      await done;
    }
    if (this.#lost) return;
    this.#lost = true;
    await nodes.leave(this.#node).catch((error: unknown) => {
      logger.warn({ node: this.#node, err: error }, 'the node could not leave; it is gone when its lease is over');
    });
  }

  #isLate(): boolean {
    const { clock, leaseMs } = this.#parts;
    return leaseMs !== null && clock.monotonic() - this.#beatAt >= leaseMs * heldShare;
  }

  #lose(why: string): void {
    this.#lost = true;
    this.#parts.logger.error({ node: this.#node, why }, 'this node has lost its lease, and stops what it runs');
    this.#dropped = this.#duties?.drop() ?? Promise.resolve();
  }

  async #join(): Promise<void> {
    const sentAt = this.#parts.clock.monotonic();
    await this.#parts.nodes.join(this.#node, this.#parts.place);
    this.#beatAt = sentAt;
    this.#lost = false;
  }

  /** What ran under the old id is dead: nobody need wait for the end of its lease. */
  async #rejoin(): Promise<void> {
    await this.#dropped;
    const old = this.#node;
    this.#node = newId('node');
    await this.#join();
    await this.#parts.nodes.leave(old);
    this.#parts.logger.info({ node: this.#node, old }, 'this node has joined again');
  }

  async #evictLost(): Promise<void> {
    const { nodes, clock, logger, leaseMs } = this.#parts;
    if (leaseMs === null) return;
    const askedAt = clock.monotonic();
    const others = (await nodes.list()).filter(({ id }) => id !== this.#node);
    for (const id of this.#seen.keys()) if (!others.some((other) => other.id === id)) this.#seen.delete(id);
    for (const other of others) {
      if (!this.#isSilent(other, askedAt, leaseMs)) continue;
      if (await nodes.evict(other)) logger.warn({ node: other.id }, 'a node is lost; its turns are taken over');
    }
  }

  /** A beat that is new was made before the answer came, and one that is old was still the last when it was asked for. */
  #isSilent({ id, beat }: NodeRecord, askedAt: number, leaseMs: number): boolean {
    const seen = this.#seen.get(id);
    if (seen?.beat === beat) return askedAt - seen.since >= leaseMs * silentShare;
    this.#seen.set(id, { beat, since: this.#parts.clock.monotonic() });
    return false;
  }

  /** Beats do not wait for what is taken over, nor does giving up wait for a beat that gets no answer. */
  #schedule(): void {
    const { leaseMs } = this.#parts;
    if (leaseMs === null) return;
    const every = leaseMs / beatsPerLease;
    this.#again('beat', every);
    this.#again('look', every / 2);
    this.#watching = setInterval(() => this.watch(), every / 4).unref();
  }

  #again(what: 'beat' | 'look', every: number): void {
    if (this.#closed) return;
    const loop = { timer: setTimeout(() => void (loop.done = this.#tried(what, every)), every).unref(), done: ready };
    this.#loops.set(what, loop);
  }

  async #tried(what: 'beat' | 'look', every: number): Promise<void> {
    try {
      await this[what]();
    } catch (error) {
      this.#parts.logger.warn(
        { node: this.#node, what, err: error },
        'the nodes could not be kept up; it is tried again',
      );
    }
    this.#again(what, every);
  }
}

const ready = Promise.resolve();
