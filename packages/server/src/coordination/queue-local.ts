import type { DueJob, JobQueue } from '../engine/ports.ts';
import type { Clock } from '../engine/clock.ts';

/** Has jobs done as soon as they are announced. What is due later is found in the rows. */
export class LocalQueue implements JobQueue {
  readonly #clock: Clock;
  #work: (() => Promise<void>) | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  announce({ runAt }: DueJob): void {
    if (runAt <= this.#clock.now()) void this.#work?.();
  }

  start(_slots: number, work: () => Promise<void>): void {
    this.#work = work;
  }

  async close(): Promise<void> {
    this.#work = null;
  }
}
