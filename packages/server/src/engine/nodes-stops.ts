import { setTimeout as delay } from 'node:timers/promises';
import type { EngineParts } from './engine.ts';
import { SallyportError } from './errors.ts';
import type { StopCause } from './outcome.ts';
import { keyOf, type RunningTurns } from './running.ts';

/** Milliseconds after which the node that runs a turn sees that it is to be stopped. */
const pollMs = 250;
/** How often it is looked whether a turn of another node has ended, in milliseconds. */
const lookMs = 100;
/** Longest wait for the end of a turn of another node, in milliseconds: it may first have to be taken over. */
const patienceMs = 60_000;

const interrupt: StopCause = { reason: 'interrupt' };

/** Stops turns for whoever wants it, also those that run on other nodes, and here those that others want stopped. */
export class Interruptions {
  readonly #parts: Pick<EngineParts, 'turns' | 'lease' | 'clock' | 'logger'>;
  readonly #running: RunningTurns;
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: Pick<EngineParts, 'turns' | 'lease' | 'clock' | 'logger'>, running: RunningTurns) {
    this.#parts = parts;
    this.#running = running;
  }

  /** Looks from now on for what others want stopped, where there may be others. */
  start(): void {
    if (!this.#parts.lease.shared) return;
    this.#timer = setTimeout(() => void this.#look().then(() => this.#timer && this.start()), pollMs).unref();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /**
   * Stops the turn of a conversation and waits for its end. False when none runs. Rejects with `not_ready` when no node
   * has ended it within a minute; it is stopped as soon as one can.
   */
  async stop(tenant: string, conversation: string): Promise<boolean> {
    const { turns, lease, clock } = this.#parts;
    if (await this.#running.stop(tenant, conversation, interrupt)) return true;
    if (!lease.shared) return false;
    await this.#running.settle(keyOf(tenant, conversation));
    const asked = await turns.askStop(tenant, conversation);
    if (asked === null) return false;
    const until = clock.monotonic() + patienceMs;
    for (;;) {
      const turn = await turns.get(tenant, asked.turn);
      if (turn === null || turn.result !== null) return true;
      if (clock.monotonic() >= until) throw new SallyportError('not_ready', { cause: new Error('its node is silent') });
      await delay(lookMs);
    }
  }

  async #look(): Promise<void> {
    if (this.#running.size === 0) return;
    const { turns, lease, logger } = this.#parts;
    try {
      for (const { tenant, conversation } of await turns.askedToStop(lease.node)) {
        void this.#running.stop(tenant, conversation, interrupt);
      }
    } catch (error) {
      logger.warn({ err: error }, 'what is to be stopped could not be read; it is read again');
    }
  }
}
