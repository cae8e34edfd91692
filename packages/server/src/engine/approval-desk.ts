import type { Clock } from './clock.ts';
import type { Approval, ApprovalStore, Log } from './ports.ts';

/** How often the store is asked what was decided elsewhere or has expired, in milliseconds. */
const pollMs = 1_000;
/** How many expire in one go. */
const expireLimit = 500;

type Waiter = (approval: Approval) => void;

type Name = Pick<Approval, 'tenant' | 'id'>;

const keyOf = ({ tenant, id }: Name): string => JSON.stringify([tenant, id]);

function namedBy(key: string): Name {
  const [tenant, id] = JSON.parse(key) as [string, string];
  return { tenant, id };
}

/**
 * Tells the turns that wait what became of their approvals. The store is the truth: whoever decides sets its row, and a
 * nudge only makes it quick. A poll finds what no nudge told.
 */
export class ApprovalDesk {
  readonly #store: ApprovalStore;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #waiters = new Map<string, Set<Waiter>>();
  #timer: NodeJS.Timeout | null = null;

  constructor(store: ApprovalStore, clock: Clock, log: Log) {
    this.#store = store;
    this.#clock = clock;
    this.#log = log;
  }

  /** Resolves with the approval once it is not pending any more; null when the signal is aborted first. */
  async settled(approval: Approval, signal: AbortSignal): Promise<Approval | null> {
    if (approval.status !== 'pending') return approval;
    if (signal.aborted) return null;
    const found = Promise.withResolvers<Approval | null>();
    const key = keyOf(approval);
    const waiters = this.#waiters.get(key) ?? new Set();
    this.#waiters.set(key, waiters.add(found.resolve));
    const leave = () => found.resolve(null);
    signal.addEventListener('abort', leave, { once: true });
    this.#schedule();
    try {
      // It may have been decided between the reading of the row and now.
      const now = await this.#store.get(approval.tenant, approval.id);
      if (now && now.status !== 'pending') found.resolve(now);
      return await found.promise;
    } finally {
      signal.removeEventListener('abort', leave);
      waiters.delete(found.resolve);
      if (waiters.size === 0) this.#waiters.delete(key);
    }
  }

  /** Tells whoever waits for this approval. */
  nudge(approval: Approval): void {
    for (const tell of this.#waiters.get(keyOf(approval)) ?? []) tell(approval);
  }

  close(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #schedule(): void {
    this.#timer ??= setTimeout(() => void this.#poll(), pollMs);
  }

  async #poll(): Promise<void> {
    try {
      for (const approval of await this.#store.expire(this.#clock.now(), expireLimit)) this.nudge(approval);
      for (const approval of await this.#store.settledOf([...this.#waiters.keys()].map(namedBy))) this.nudge(approval);
    } catch (error) {
      this.#log.warn({ err: error }, 'decisions could not be read; they are read again');
    }
    if (this.#timer === null) return;
    this.#timer = null;
    if (this.#waiters.size > 0) this.#schedule();
  }
}
