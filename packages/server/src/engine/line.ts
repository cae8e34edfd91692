import { setTimeout as delay } from 'node:timers/promises';
import { SallyportError } from './errors.ts';
import type { StopCause } from './outcome.ts';
import type { ConversationRecord, RunEnd, RunHost, Runner, RunOrder } from './ports.ts';
import type { TurnLog } from './turn-log.ts';

/** Milliseconds after which a turn that goes on asks again for a place. */
const placeMs = 2_000;

/**
 * Has a turn accepted, unless it would be refused a process: rejects then as the runner says, with nothing read or
 * written. Resolves as `accept` does, with null when the turn was not accepted.
 */
export async function withPlace<T>(
  runner: Pick<Runner, 'refuse' | 'notComing'>,
  { tenant, key, limits }: Pick<ConversationRecord, 'tenant' | 'key' | 'limits'>,
  accept: () => Promise<T>,
): Promise<T> {
  const refusal = runner.refuse({ tenant, key }, limits.timeoutSeconds * 1000);
  if (refusal) throw refusal;
  let accepted: T | null = null;
  try {
    accepted = await accept();
    return accepted;
  } finally {
    if (accepted === null) runner.notComing();
  }
}

/** What a turn waits for a process with. */
interface LineParts {
  readonly runner: Runner;
  readonly log: TurnLog;
  readonly order: Pick<RunOrder, 'ref' | 'key'>;
}

/** The place of a turn in the line for a process. */
export class Line {
  readonly #parts: LineParts;
  readonly #stop: (cause: StopCause) => void;
  /** True while the turn waits to run for the first time: then it may be refused. */
  #refusable = false;
  #place = 0;
  #leaving = false;

  /** `stop` ends the turn. */
  constructor(parts: LineParts, stop: (cause: StopCause) => void) {
    this.#parts = parts;
    this.#stop = stop;
  }

  /** Has an order run. What goes on after a human's decision is not refused a place, but waits for one. */
  async run(order: RunOrder, host: RunHost, signal: AbortSignal): Promise<RunEnd> {
    for (;;) {
      this.#refusable = order.recovery === null;
      try {
        return await this.#parts.runner.run(order, host, signal);
      } catch (error) {
        if (order.recovery === null || SallyportError.from(error).code !== 'overloaded' || signal.aborted) throw error;
        await delay(placeMs, undefined, { signal }).catch(() => undefined);
      } finally {
        this.#refusable = false;
      }
    }
  }

  /** How long the turn may wait that has so many milliseconds left. What may not be refused waits for as long as it takes. */
  patienceMs(leftMs: number): number {
    return this.#refusable ? leftMs : Infinity;
  }

  /** Takes what the runner tells of the place, and tells those who follow the turn. */
  queued(place: number): void {
    const { log } = this.#parts;
    if (place > 0) log.status({ status: 'queued', place });
    else if (this.#place > 0) log.status({ status: 'running' });
    this.#place = place;
    if (place === 0) this.#refusable = false;
    if (this.#leaving) this.leave();
  }

  /** Refuses the turn if it waits, now or later, and nothing of it has run: whoever asked can do better elsewhere. */
  leave(): void {
    this.#leaving = true;
    const waits = this.#refusable && this.#place > 0;
    if (waits) this.#stop({ reason: 'failed', error: new SallyportError('not_ready') });
  }

  /** Why a turn ends whose time has passed before anything of it ran; null when something has. */
  refusal(): StopCause | null {
    if (!this.#refusable) return null;
    const { runner, order } = this.#parts;
    const error = runner.refuse({ tenant: order.ref.tenant, key: order.key }, 0);
    return { reason: 'failed', error: error ?? new SallyportError('overloaded', { retryAfter: 1 }) };
  }
}
