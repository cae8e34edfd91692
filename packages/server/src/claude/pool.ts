import { availableParallelism } from 'node:os';
import { SallyportError } from '../engine/errors.ts';
import type { LiveProcess, RunOrder } from '../engine/ports.ts';
import type { Places } from './admission.ts';
import type { ReuseBounds } from './clearing.ts';
import { isFirst, LivePool } from './live.ts';
import type { RunParts } from './run.ts';
import { endProcess, startRunProcess, type ProcessParts, type RunProcess, type Starter } from './run-process.ts';
import { Spares, type SparesOptions } from './spares.ts';

export interface PoolOptions extends ProcessParts {
  /** The places of runs. What waits takes none of them, but gives way to who has one. */
  readonly places: Places;
  readonly reuse: ReuseBounds;
  readonly spares: Pick<SparesOptions, 'count' | 'shapes'>;
}

/** All the processes that wait for somebody, and who gets which. */
export class Pool {
  readonly parts: RunParts;
  readonly #options: PoolOptions;
  readonly #live: LivePool;
  readonly #spares: Spares;

  constructor(options: PoolOptions) {
    const { reuse, spares } = options;
    this.#options = options;
    this.#live = new LivePool(options.log, reuse);
    this.parts = { ...options, live: this.#live, reuse: reuse.sessions > 1, busy: new Map() };
    const mayStart = () => this.#mayStart() && this.#spares.size < this.#mostSpares();
    this.#spares = new Spares({ ...options, ...spares, mayStart, makeRoom: () => this.#giveWay() });
    this.refill();
  }

  /** The process that a turn gets that has a place, null when it is to start one; others go where there are too many. */
  async take(order: RunOrder): Promise<RunProcess | null> {
    const waiting = isFirst(order) ? await this.#takeFirst(order) : await this.#live.take(order);
    const { places } = this.#options;
    await this.#spares.fit(this.#mostSpares());
    await this.#live.fit(Math.max(0, places.free - this.#spares.size));
    await this.#spares.fit(places.free);
    return waiting;
  }

  /** What is ready comes before what will be in a moment: a tenant that asks again and again has two processes then. */
  async #takeFirst(order: RunOrder): Promise<RunProcess | null> {
    const ready = (await this.#live.takeCleared(order, false)) ?? this.#spares.take(order);
    return ready ?? (await this.#live.takeCleared(order, true)) ?? (await this.#spares.takeComing(order));
  }

  /** Makes the spares that are missing, if now is the time. */
  refill(): void {
    this.#spares.refill();
  }

  /** Starts the process of a conversation ahead of its next turn, if there is room. */
  async warm(order: RunOrder, signal: AbortSignal): Promise<void> {
    if (signal.aborted || !this.#mayStart()) return;
    await this.#live.warm(order, async () => {
      await this.#giveWay();
      return await startAhead(this.parts, order, signal);
    });
  }

  /** Ends the process that waits in a session, if there is one. */
  async free(tenant: string, session: string): Promise<void> {
    await this.#live.free(tenant, session);
  }

  /** The processes there are, each with the turn that is in it, or was last. */
  processes(): LiveProcess[] {
    const { jails, busy } = this.parts;
    return jails.live().map((each) => {
      const running = busy.get(each.id);
      if (running !== undefined) return { ...each, ...running, state: 'running' };
      const waiting = this.#live.inJail(each.id);
      if (waiting !== null) return { ...each, ...waiting };
      return { ...each, state: this.#spares.has(each.id) ? 'spare' : 'starting', sessions: 1, order: null };
    });
  }

  async close(): Promise<void> {
    await Promise.all([this.#live.fit(0), this.#spares.close()]);
  }

  /**
   * What is started ahead leaves half of the cores to those whose turn has come. Were it to wait for all of them, one turn
   * without a spare would start its own process, keep the next spare from being made, and so on.
   */
  #mayStart(): boolean {
    const { places, starts } = this.#options;
    return starts.free * 2 >= availableParallelism() && places.free > this.#spares.size;
  }

  /** A conversation is likely to go on, so spares give way to its process. One does so last: it is for everybody. */
  #mostSpares(): number {
    return Math.max(1, this.#options.places.free - this.#live.conversations);
  }

  /** Of those that wait, the one that was not used for the longest gives way to one that is likely to be used. */
  async #giveWay(): Promise<void> {
    await this.#live.fit(Math.max(0, this.#options.places.free - this.#spares.size - 1));
  }
}

/** Starts the process of a conversation without a turn: nothing is said to it, and its files are not kept. */
async function startAhead(parts: RunParts, order: RunOrder, signal: AbortSignal): Promise<RunProcess> {
  const starter: Starter = {
    stopping: new Promise(() => {}),
    duties: () => null,
    settleCall: async () => null,
    keeps: false,
  };
  const process = await startRunProcess(parts, order, parts.broker.issue(), starter, signal);
  if (process.claude !== null) return process;
  await endProcess(process, false, parts.log);
  throw new SallyportError('not_ready');
}
