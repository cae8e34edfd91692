import type { FastifyReply } from 'fastify';

/** A request that runs or follows something, as long as its answer is open. */
export interface OpenRun {
  /** Aborted when the client has left. */
  readonly left: AbortSignal;
  /** Aborted when the run must stop: its client has left, or the service closes. */
  readonly stopped: AbortSignal;
  /** Stops the run. */
  stop(): void;
}

/** Runs, or readers, whose answers are open. */
export class OpenRuns {
  readonly #open = new Set<AbortController>();

  get size(): number {
    return this.#open.size;
  }

  /** Follows an answer until it is written or its client has left. */
  open(reply: FastifyReply): OpenRun {
    const left = new AbortController();
    const stop = new AbortController();
    const { raw } = reply;
    const over = () => {
      this.#open.delete(stop);
      if (raw.writableEnded) return;
      left.abort();
      stop.abort();
    };
    this.#open.add(stop);
    raw.once('close', over);
    if (raw.destroyed) over();
    return { left: left.signal, stopped: stop.signal, stop: () => stop.abort() };
  }

  /** Stops every run, so that its answer ends with what it has. */
  stopAll(): void {
    for (const stop of this.#open) stop.abort();
  }
}
