import type { Log, ModelCall } from '../engine/ports.ts';

/** Most calls that are kept. A service that cannot record for so long spends on nothing new meanwhile. */
const maxCalls = 10_000;
const againMs = 1000;

export interface UnbookedParts {
  /** Records a call; one that was recorded already is the same call. */
  readonly record: (call: ModelCall) => Promise<void>;
  readonly log: Log;
}

/** Calls that were spent and could not be recorded. They are tried again, the oldest first, until they are recorded. */
export class Unbooked {
  readonly #parts: UnbookedParts;
  readonly #calls: ModelCall[] = [];
  #timer: NodeJS.Timeout | undefined;
  #trying: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(parts: UnbookedParts) {
    this.#parts = parts;
  }

  /** Keeps a call. Beyond the bound it is lost but for the log, which names what it cost. */
  add(call: ModelCall): void {
    const { log } = this.#parts;
    const { id, ref, usage, costUsd } = call;
    const told = { call: id, tenant: ref.tenant, turn: ref.turn, usage, costUsd };
    if (this.#calls.length >= maxCalls) return log.error(told, 'usage is lost, as too much of it could not be stored');
    log.error(told, 'usage could not be stored yet');
    this.#calls.push(call);
    this.#later();
  }

  /** Tries once more what is left, and then no more. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#trying;
    await this.#tryAll();
    if (this.#calls.length > 0) this.#parts.log.error({ calls: this.#calls.length }, 'usage is lost at the end');
  }

  #later(): void {
    if (this.#closed || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#trying = this.#again();
    }, againMs).unref();
  }

  async #again(): Promise<void> {
    await this.#tryAll();
    this.#timer = undefined;
    if (this.#calls.length > 0) this.#later();
  }

  /** The first that fails ends it: the others would fail too. Never rejects. */
  async #tryAll(): Promise<void> {
    for (let call = this.#calls[0]; call !== undefined; call = this.#calls[0]) {
      const isStored = await this.#parts.record(call).then(
        () => true,
        () => false,
      );
      if (!isStored) return;
      this.#calls.shift();
    }
  }
}
