import type { Log, Profile, RunOrder } from '../engine/ports.ts';
import { clear, type ReuseBounds } from './clearing.ts';
import { endProcess, type RunProcess } from './run-process.ts';

/** A process that waits for a turn. */
interface Idle {
  readonly process: RunProcess;
  /** The turn that was in it last. */
  readonly order: RunOrder;
  /** What a process must have been started with to take a turn. */
  readonly fixed: string;
  /**
   * Of a conversation that goes on: the turn that it ended, as the next turn has the next epoch, or another process was
   * there between. Null: it is cleared, and takes the first turn of any.
   */
  readonly epoch: number | null;
  /** False once it turned out that it cannot be used. */
  readonly ready: Promise<boolean>;
  /** True once nothing is waited for any more. */
  isReady: boolean;
  readonly timer: NodeJS.Timeout;
}

/** How long a process waits for a next turn, in milliseconds. */
const idleMs = 5 * 60_000;

/**
 * The processes that are idle: those between the turns of their conversations, at most one for each, and those of
 * one-shots, cleared for the next one of the same tenant and the same settings.
 */
export class LivePool {
  readonly #log: Log;
  readonly #bounds: ReuseBounds;
  /** Least recently used first. Those of conversations by tenant and session, others by their jail. */
  readonly #idle = new Map<string, Idle>();
  readonly #warming = new Map<string, Promise<void>>();
  readonly #ending = new Set<Promise<void>>();

  constructor(log: Log, bounds: ReuseBounds) {
    this.#log = log;
    this.#bounds = bounds;
  }

  get size(): number {
    return this.#idle.size;
  }

  /** How many of them wait for the next turn of their conversation. */
  get conversations(): number {
    return [...this.#idle.values()].filter(({ epoch }) => epoch !== null).length;
  }

  /** Has the process of a turn that has ended wait for the next one. Nothing of that turn may be left in it. */
  put(order: RunOrder, process: RunProcess): void {
    const { epoch } = order.ref;
    const fixed = conversationOf(order);
    this.#wait(keyOf(order), { process, order, fixed, epoch, ready: Promise.resolve(true) });
  }

  /** Has a process started that waits for the next turn of a conversation, unless one is there. Never rejects. */
  async warm(order: RunOrder, start: () => Promise<RunProcess>): Promise<void> {
    const key = keyOf(order);
    if (this.#idle.has(key) || this.#warming.has(key)) return;
    const warming = start().then(
      (process) => this.put(order, process),
      (error: unknown) => this.#log.info({ err: error }, 'a conversation could not be warmed'),
    );
    this.#warming.set(key, warming);
    await warming.finally(() => this.#warming.delete(key));
  }

  /** Clears the process of a one-shot, and has it wait for another one. It is ended when it cannot be cleared. */
  recycle(order: RunOrder, process: RunProcess): void {
    const key = process.jail.id;
    const ready = clear(process, order.profile, this.#bounds).then(
      () => true,
      (error: unknown) => {
        this.#log.info({ jail: key, err: error }, 'a process is not used again');
        this.#end(key);
        return false;
      },
    );
    this.#wait(key, { process, order, fixed: shapeOf(order.profile), epoch: null, ready });
  }

  /** The process of the conversation if it can take the turn, else null; one that cannot is ended. */
  async take(order: RunOrder): Promise<RunProcess | null> {
    const key = keyOf(order);
    await this.#warming.get(key);
    const own = this.#idle.get(key);
    if (own === undefined) return null;
    const fits = order.resume && order.recovery === null && order.ref.epoch - 1 === own.epoch;
    if (fits && conversationOf(order) === own.fixed && (await own.process.jail.isPlaceSame())) {
      if (this.#leave(key, own)) return own.process;
    }
    this.#end(key);
    return null;
  }

  /**
   * A process that was cleared and can take a first turn; null when there is none. `soon`: also one that is just being
   * cleared. The one that was used last comes first: others get old, and are ended.
   */
  async takeCleared(order: RunOrder, soon: boolean): Promise<RunProcess | null> {
    const shape = shapeOf(order.profile);
    for (;;) {
      const found = [...this.#idle].findLast(
        ([, { epoch, fixed, isReady }]) => epoch === null && fixed === shape && (isReady || soon),
      );
      if (found === undefined) return null;
      const [key, idle] = found;
      this.#leave(key, idle);
      const [ready, same] = await Promise.all([idle.ready, idle.process.jail.isPlaceSame()]);
      if (ready && same) return idle.process;
      this.#watch(endProcess(idle.process, true, this.#log));
    }
  }

  /** The process that is idle in a jail, and its last turn; null when none is. */
  inJail(jail: string): { state: 'idle' | 'cleared'; order: RunOrder; sessions: number } | null {
    const found = [...this.#idle.values()].find(({ process }) => process.jail.id === jail);
    if (found === undefined) return null;
    const { epoch, order, process } = found;
    return { state: epoch === null ? 'cleared' : 'idle', order, sessions: process.sessions };
  }

  /** Ends the least recently used ones until at most so many are left, and waits until they and all others that are ending are gone. */
  async fit(count: number): Promise<void> {
    for (const key of [...this.#idle.keys()].slice(0, Math.max(0, this.#idle.size - count))) this.#end(key);
    await Promise.all(this.#ending);
  }

  /** Ends the process that waits in a session, if there is one. */
  async free(tenant: string, session: string): Promise<void> {
    const key = keyOf({ ref: { tenant }, sdkSession: session });
    await this.#warming.get(key);
    this.#end(key);
    await Promise.all(this.#ending);
  }

  #wait(key: string, waiting: Omit<Idle, 'timer' | 'isReady'>): void {
    this.#end(key);
    const timer = setTimeout(() => this.#end(key), idleMs).unref();
    const idle: Idle = { ...waiting, isReady: false, timer };
    this.#idle.set(key, idle);
    void idle.ready.then((ready) => (idle.isReady = ready));
    void idle.process.jail.exited.then(() => this.#idle.get(key) === idle && this.#end(key));
  }

  /** False when it has left already. */
  #leave(key: string, idle: Idle): boolean {
    if (this.#idle.get(key) !== idle) return false;
    clearTimeout(idle.timer);
    return this.#idle.delete(key);
  }

  #end(key: string): void {
    const idle = this.#idle.get(key);
    if (idle === undefined || !this.#leave(key, idle)) return;
    this.#watch(endProcess(idle.process, true, this.#log));
  }

  #watch(ending: Promise<void>): void {
    this.#ending.add(ending);
    void ending.finally(() => this.#ending.delete(ending));
  }
}

/** True for the first turn of a conversation or of a one-shot, which any process of its shape can take. */
export const isFirst = ({ resume, recovery }: RunOrder): boolean => !resume && recovery === null;

/** What cannot be changed of a process that has started. How calls are decided is not of it: that is asked every time. */
export function shapeOf(profile: Profile): string {
  const { tenant, projectPath, access, tools, model, effort, systemPrompt, outputSchema } = profile;
  return JSON.stringify([tenant, projectPath, access, tools.toSorted(), model, effort, systemPrompt, outputSchema]);
}

const keyOf = ({ ref, sdkSession }: { ref: { tenant: string }; sdkSession: string }): string =>
  JSON.stringify([ref.tenant, sdkSession]);

const conversationOf = ({ profile, keepFiles }: RunOrder): string => JSON.stringify([profile, keepFiles]);
