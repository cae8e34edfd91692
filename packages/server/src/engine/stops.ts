import type { StopInfo } from '@sallyport/protocol';
import { isoTime, type Clock } from './clock.ts';
import { SallyportError } from './errors.ts';
import type { Log, Stop, StopStore } from './ports.ts';

/** Milliseconds after which another process of the service has seen a stop. */
const pollMs = 250;
/** What was read so many milliseconds ago still counts for what begins now: half of what a stop may take. */
const freshMs = 500;

/** Whose work it is. */
export interface Whose {
  readonly tenant: string;
  /** Name of the key that owns the conversation. */
  readonly key: string;
  readonly conversation: string;
}

/** What of work is known before it is accepted: a new conversation may have no id yet. */
type Wanted = Omit<Whose, 'conversation'> & { readonly conversation: string | null };

const names = ({ tenant, key, conversation }: Stop, whose: Wanted): boolean =>
  (tenant === null || tenant === whose.tenant) &&
  (key === null || key === whose.key) &&
  (conversation === null || conversation === whose.conversation);

/** A stop as clients read it. */
export function stopInfo({ id, createdAt, createdBy, ...stop }: Stop): StopInfo {
  const { tenant, key, conversation, reason } = stop;
  const scope = conversation !== null ? 'conversation' : key !== null ? 'key' : tenant !== null ? 'tenant' : 'all';
  return {
    stop_id: id,
    scope,
    tenant,
    key,
    conversation,
    reason,
    created_at: isoTime(createdAt),
    created_by: createdBy,
  };
}

/**
 * The stops that hold, as this process knows them: at once those that were made here, within a quarter of a second those
 * of other processes.
 */
export class Stops {
  readonly #store: StopStore;
  readonly #logger: Log;
  readonly #clock: Pick<Clock, 'monotonic'>;
  readonly #listeners = new Set<() => void>();
  #known: readonly Stop[] = [];
  /** Readings that were begun, and the latest of them whose answer counts. */
  #begun = 0;
  #counts = 0;
  /** When the reading that counts was begun, by the clock that only grows. */
  #readAt = -Infinity;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(parts: { readonly stops: StopStore; readonly logger: Log; readonly clock: Pick<Clock, 'monotonic'> }) {
    this.#store = parts.stops;
    this.#logger = parts.logger;
    this.#clock = parts.clock;
  }

  /** Reads what holds, and goes on watching until it is closed. Rejects when it cannot be read. */
  async start(): Promise<void> {
    await this.refresh();
    const poll = () => {
      if (this.#closed) return;
      this.#timer = setTimeout(() => {
        const failed = (error: unknown) => this.#logger.error({ err: error }, 'the stops could not be read');
        void this.refresh().catch(failed).then(poll);
      }, pollMs).unref();
    };
    poll();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#listeners.clear();
  }

  /** Called back with every new set of stops. */
  onChange(listener: () => void): void {
    this.#listeners.add(listener);
  }

  /** True when a stop that is known here names the work. */
  holds(whose: Whose): boolean {
    return this.#known.some((stop) => names(stop, whose));
  }

  /**
   * Rejects with `stopped` when a stop names the work, as the store had it half a second ago or later; as it fails when
   * it cannot be read.
   */
  async check(wanted: Wanted): Promise<void> {
    const isFresh = this.#clock.monotonic() - this.#readAt < freshMs;
    const stops = isFresh ? this.#known : await this.refresh();
    if (stops.some((stop) => names(stop, wanted))) throw new SallyportError('stopped');
  }

  /** Reads the stops again and gives them. Of two readings the one that began later counts. */
  async refresh(): Promise<readonly Stop[]> {
    this.#begun += 1;
    const reading = this.#begun;
    const readAt = this.#clock.monotonic();
    const found = await this.#store.list();
    // A later reading that has not ended yet is no reason to wait: there may always be one.
    if (reading < this.#counts) return found;
    this.#counts = reading;
    this.#readAt = readAt;
    const ids = (stops: readonly Stop[]) => stops.map(({ id }) => id).join();
    const changed = ids(found) !== ids(this.#known);
    this.#known = found;
    if (changed) for (const listener of this.#listeners) listener();
    return found;
  }
}
