import type { Clock } from './clock.ts';
import type { ConversationStore } from './ports.ts';

/** How long it is known that a conversation is there, in milliseconds: another node may have deleted it since. */
const knownMs = 1000;
/** Of how many it is known. */
const maxKnown = 10_000;

/** Tells whether conversations are there without asking the store each time. */
export class SeenConversations {
  readonly #store: Pick<ConversationStore, 'get'>;
  readonly #clock: Pick<Clock, 'monotonic'>;
  /** When they were last seen, by the clock that only grows. */
  readonly #seen = new Map<string, number>();

  constructor(store: Pick<ConversationStore, 'get'>, clock: Pick<Clock, 'monotonic'>) {
    this.#store = store;
    this.#clock = clock;
  }

  /** True when it is there with its content, or was a second ago at most and nobody has said that it is gone. */
  async isThere(tenant: string, conversation: string): Promise<boolean> {
    const [name, now] = [nameOf(tenant, conversation), this.#clock.monotonic()];
    if (now - (this.#seen.get(name) ?? -Infinity) < knownMs) return true;
    const found = await this.#store.get(tenant, conversation);
    const isThere = found !== null && found.status !== 'gone';
    if (this.#seen.size >= maxKnown) this.#seen.clear();
    if (isThere) this.#seen.set(name, now);
    else this.#seen.delete(name);
    return isThere;
  }

  /** It is gone. */
  forget(tenant: string, conversation: string): void {
    this.#seen.delete(nameOf(tenant, conversation));
  }
}

const nameOf = (tenant: string, conversation: string): string => JSON.stringify([tenant, conversation]);
