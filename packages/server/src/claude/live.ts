import type { Log, RunOrder } from '../engine/ports.ts';
import { endProcess, type RunProcess } from './run-process.ts';

/** A process that waits for the next turn of its conversation. */
interface Idle {
  readonly process: RunProcess;
  /** The turn that was in it last. */
  readonly order: RunOrder;
  /** What must be the same in the next turn. */
  readonly fixed: string;
  /** Of the turn it ended: the next turn has the next one, or another process was there between. */
  readonly epoch: number;
  readonly timer: NodeJS.Timeout;
}

/** How long a process waits for a next turn, in milliseconds. */
const idleMs = 5 * 60_000;

/** The processes that are idle between the turns of their conversations, at most one for each. */
export class LivePool {
  readonly #log: Log;
  /** Least recently used first. */
  readonly #idle = new Map<string, Idle>();
  readonly #ending = new Set<Promise<void>>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** Has the process of a turn that has ended wait for the next one. Nothing of that turn may be left in it. */
  put(order: RunOrder, process: RunProcess): void {
    const key = keyOf(order.ref.tenant, order.sdkSession);
    const timer = setTimeout(() => this.#end(key), idleMs).unref();
    const idle: Idle = { process, order, fixed: fixedOf(order), epoch: order.ref.epoch, timer };
    this.#idle.set(key, idle);
    void process.jail.exited.then(() => this.#idle.get(key) === idle && this.#end(key));
  }

  /** The process that can take the turn; null when there is none. One that cannot take it is ended. */
  take(order: RunOrder): RunProcess | null {
    const key = keyOf(order.ref.tenant, order.sdkSession);
    const idle = this.#idle.get(key);
    if (idle === undefined) return null;
    const fits = order.resume && order.recovery === null && order.ref.epoch === idle.epoch + 1;
    if (!fits || fixedOf(order) !== idle.fixed) {
      this.#end(key);
      return null;
    }
    clearTimeout(idle.timer);
    this.#idle.delete(key);
    return idle.process;
  }

  /** The last turn of the process that is idle in a jail; null when none is. */
  lastOf(jail: string): RunOrder | null {
    return [...this.#idle.values()].find(({ process }) => process.jail.id === jail)?.order ?? null;
  }

  /** Ends the least recently used ones until at most so many are left, and waits until they and all others that are ending are gone. */
  async fit(count: number): Promise<void> {
    for (const key of [...this.#idle.keys()].slice(0, Math.max(0, this.#idle.size - count))) this.#end(key);
    await Promise.all(this.#ending);
  }

  /** Ends the process that waits in a session, if there is one. */
  async free(tenant: string, session: string): Promise<void> {
    this.#end(keyOf(tenant, session));
    await Promise.all(this.#ending);
  }

  #end(key: string): void {
    const idle = this.#idle.get(key);
    if (idle === undefined) return;
    clearTimeout(idle.timer);
    this.#idle.delete(key);
    this.#watch(endProcess(idle.process, true, this.#log));
  }

  #watch(ending: Promise<void>): void {
    this.#ending.add(ending);
    void ending.finally(() => this.#ending.delete(ending));
  }
}

const keyOf = (tenant: string, session: string): string => JSON.stringify([tenant, session]);

const fixedOf = ({ profile, keepFiles }: RunOrder): string => JSON.stringify([profile, keepFiles]);
