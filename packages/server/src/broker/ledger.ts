import { SallyportError } from '../engine/errors.ts';
import type { BrokerGrant, BrokerTurn, CallVerdict, ModelCall, UpstreamFailure } from '../engine/ports.ts';
import { refusal } from './failures.ts';
import { Pending } from './pending.ts';
import type { Prices } from './prices.ts';

/** Whether a call may be passed. `release` must be called when it has ended and is metered. */
export type Admission = { readonly release: () => void } | Refused;

/** Null: a budget or the number of calls is reached, or the turn is over; that is no failure of the upstream. */
interface Refused {
  readonly refused: UpstreamFailure | null;
}

/**
 * The books of one turn: what it may call, what it has spent, how its last call ended.
 *
 * Calls of a turn that a budget counts, its own or another, pass one after the other, each after what the former cost
 * is stored, so that two calls can never both pass on the same rest of it. Without a budget they pass at once.
 */
export class Ledger implements BrokerTurn {
  readonly grant: BrokerGrant;
  readonly calls: ModelCall[] = [];
  readonly asked: Promise<void>;
  readonly #resolveAsked: () => void;
  readonly #prices: Prices;
  readonly #store: (call: ModelCall) => Promise<void>;
  readonly #running = new Pending();
  readonly #storing = new Pending();
  #lastInLine: Promise<void> = Promise.resolve();
  #spent: number;
  #budgetReached = false;
  #answers: number;
  #callsReached = false;
  #failure: UpstreamFailure | null = null;
  #closed = false;
  #storeError: { readonly thrown: unknown } | null = null;

  constructor(grant: BrokerGrant, prices: Prices, store: (call: ModelCall) => Promise<void>) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.asked = promise;
    this.#resolveAsked = resolve;
    this.grant = grant;
    this.#spent = grant.before.spentUsd;
    this.#answers = grant.before.calls;
    this.#prices = prices;
    this.#store = store;
  }

  get closed(): boolean {
    return this.#closed;
  }

  spentUsd(): number {
    return this.#spent;
  }

  budgetReached(): boolean {
    return this.#budgetReached;
  }

  callsReached(): boolean {
    return this.#callsReached;
  }

  failure(): UpstreamFailure | null {
    return this.#failure;
  }

  async settle(): Promise<void> {
    this.close();
    await this.#running.none();
    await this.#storing.none();
    if (this.#storeError !== null) throw this.#storeError.thrown;
  }

  /** No call is passed any more. */
  close(): void {
    this.#closed = true;
  }

  /** Has `settle` wait for a call. The promise must not reject. */
  watch(call: Promise<void>): void {
    this.#running.add(call);
  }

  /** How the last call ended: null for good. */
  ended(failure: UpstreamFailure | null): void {
    this.#failure = failure;
  }

  /** The model has given a whole answer that the limit of calls counts. */
  answered(): void {
    this.#answers += 1;
  }

  /** Adds a metered call and begins to store it. */
  add(call: ModelCall): void {
    this.calls.push(call);
    this.#spent += call.costUsd ?? 0;
    this.#storing.add(this.#keep(call));
  }

  /**
   * Asks to pass a call; waits until the turn is ready and for its place. Rejects when the signal is aborted meanwhile, or
   * when it cannot be found out what is left of a budget.
   */
  async admit(signal: AbortSignal, main: boolean): Promise<Admission> {
    this.#resolveAsked();
    await unlessAborted(signal, this.grant.ready);
    const release = await this.#waitInLine(signal);
    let keepsPlace = false;
    try {
      const verdict = await this.check(signal, main);
      if (typeof verdict === 'object') return verdict;
      keepsPlace = verdict === 'alone';
      return { release: keepsPlace ? release : () => {} };
    } finally {
      if (!keepsPlace) release();
    }
  }

  /** Whether a call, or another try of it, may be passed now. Rejects like `admit`. */
  async check(signal: AbortSignal, main: boolean): Promise<Exclude<CallVerdict, 'no'> | Refused> {
    // A call must not pass while it is unknown whether the former ones could be stored, and counts them.
    await this.#storing.none();
    const verdict = await unlessAborted(signal, this.grant.mayCall(this.#spent));
    await this.#storing.none();
    signal.throwIfAborted();
    return this.#decide(main, verdict);
  }

  #decide(main: boolean, verdict: CallVerdict): Exclude<CallVerdict, 'no'> | Refused {
    if (this.#closed) return { refused: null };
    if (this.#storeError !== null) {
      const { code } = SallyportError.from(this.#storeError.thrown);
      return { refused: refusal(code, 'usage of a former call could not be stored') };
    }
    const { budgetUsd, maxCalls, model } = this.grant;
    if (main && this.#answers >= maxCalls) {
      this.#callsReached = true;
      return { refused: null };
    }
    if (budgetUsd === null && verdict === 'yes') return 'yes';
    if (this.#prices.of(model) === null) {
      return { refused: refusal('model_not_allowed', `the price of ${model} is not known and there is a budget`) };
    }
    if (verdict !== 'no' && (budgetUsd === null || this.#spent < budgetUsd)) return 'alone';
    this.#budgetReached = true;
    return { refused: null };
  }

  async #keep(call: ModelCall): Promise<void> {
    try {
      await this.#store(call);
    } catch (error) {
      this.#storeError ??= { thrown: error };
    }
  }

  async #waitInLine(signal: AbortSignal): Promise<() => void> {
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    const before = this.#lastInLine;
    this.#lastInLine = before.then(() => released);
    try {
      await unlessAborted(signal, before);
      return release;
    } catch (error) {
      release();
      throw error;
    }
  }
}

/** Waits for the promise; rejects as it does, or when the signal is aborted first. */
async function unlessAborted<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  try {
    if (signal.aborted) abort();
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
