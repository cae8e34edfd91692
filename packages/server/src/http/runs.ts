import type { FastifyReply } from 'fastify';

/** A request that runs or follows something, as long as its answer is open. */
export interface OpenRun {
  /** Aborted when the client has left, or its key is gone. */
  readonly left: AbortSignal;
  /** Aborted when the run must stop: so, or when the service closes. */
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

  /** Follows an answer until it is written, its client has left or its key is gone. */
  open(reply: FastifyReply): OpenRun {
    const left = new AbortController();
    const stop = new AbortController();
    const { raw, request } = reply;
    const { keyGone } = request;
    const leave = () => {
      left.abort();
      stop.abort();
    };
    const over = () => {
      this.#open.delete(stop);
      keyGone?.removeEventListener('abort', leave);
      if (!raw.writableEnded) leave();
    };
    this.#open.add(stop);
    keyGone?.addEventListener('abort', leave, { once: true });
    raw.once('close', over);
    if (keyGone?.aborted) leave();
    if (raw.destroyed) over();
    return { left: left.signal, stopped: stop.signal, stop: () => stop.abort() };
  }

  /** Stops every run, so that its answer ends with what it has. */
  stopAll(): void {
    for (const stop of this.#open) stop.abort();
  }
}
