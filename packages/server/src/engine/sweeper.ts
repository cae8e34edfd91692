import type { EngineParts } from './engine.ts';
import type { LiveLogs } from './live.ts';
import type { RunningTurns } from './running.ts';

/** How often it is swept, in milliseconds. */
const everyMs = 30_000;
/** How many conversations in one go. */
const limit = 200;
const dayMs = 86_400_000;

/** Ends what nobody has spoken in for a time, and deletes what is past its retention. */
export class Sweeper {
  readonly #parts: EngineParts;
  readonly #logs: LiveLogs;
  readonly #running: RunningTurns;
  #timer: NodeJS.Timeout | null = null;
  #sweeping: Promise<void> = Promise.resolve();
  #closed = false;
  /** Turns of this node that did not run here the last time. */
  #missing: ReadonlySet<string> = new Set();

  constructor(parts: EngineParts, logs: LiveLogs, running: RunningTurns) {
    this.#parts = parts;
    this.#logs = logs;
    this.#running = running;
  }

  /** Sweeps at once, and from then on again and again. */
  start(): void {
    this.#sweeping = this.sweep().finally(() => {
      if (!this.#closed) this.#timer = setTimeout(() => this.start(), everyMs).unref();
    });
  }

  /** Stops it and waits for the sweep that is under way. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#timer) clearTimeout(this.#timer);
    await this.#sweeping;
  }

  /** One sweep. Never rejects: what could not be done is done the next time. */
  async sweep(): Promise<void> {
    try {
      await this.#running.settle();
      await this.#giveUp();
      await this.#parts.budgets.releaseEnded();
      await this.#endIdle();
      await this.#freeEnded();
      await this.#bury();
      await this.#parts.turns.sweepClaims(this.#parts.clock.now(), limit);
    } catch (error) {
      this.#parts.logger.warn({ err: error }, 'a sweep failed; it is done again');
    }
  }

  /** A turn that is this node's and does not run here, as the answer to its commit was lost, would never end. */
  async #giveUp(): Promise<void> {
    const { turns, lease, logger } = this.#parts;
    const missing = (await turns.ofNode(lease.node)).filter((ref) => !this.#running.has(ref.tenant, ref.conversation));
    for (const ref of missing) {
      if (!this.#missing.has(ref.turn)) continue;
      logger.warn({ turn: ref.turn }, 'a turn does not run where it should; it is taken over');
      await turns.giveUp(ref);
    }
    this.#missing = new Set(missing.map(({ turn }) => turn));
    await lease.look();
  }

  async #endIdle(): Promise<void> {
    const { conversations, conversationTtlSeconds, clock, runner } = this.#parts;
    for (;;) {
      const ended = await conversations.endIdle(clock.now() - conversationTtlSeconds * 1000, limit);
      for (const { tenant, id, sdkSession } of ended) {
        this.#logs.end(tenant, id);
        await runner.free(tenant, sdkSession);
      }
      if (ended.length < limit) return;
    }
  }

  /** Ends the processes that wait here for conversations that another node has ended or deleted. */
  async #freeEnded(): Promise<void> {
    const { conversations, lease, runner } = this.#parts;
    if (!lease.shared) return;
    for (const { state, order } of runner.processes()) {
      if (state !== 'idle' || order === null) continue;
      const { tenant, conversation } = order.ref;
      const found = await conversations.get(tenant, conversation);
      if (found === null || found.status === 'ended') await runner.free(tenant, order.sdkSession);
    }
  }

  async #bury(): Promise<void> {
    const { conversations, conversationTtlSeconds, retentionDays, clock, runner, transcripts } = this.#parts;
    const before = clock.now() - conversationTtlSeconds * 1000 - retentionDays * dayMs;
    for (const { tenant, id, sdkSession } of await conversations.listEnded(before, limit)) {
      await transcripts.delete(tenant, sdkSession);
      await runner.forget(tenant, sdkSession);
      await conversations.bury(tenant, id);
    }
  }
}
