import { newId, randomFraction } from './ids.ts';
import { patiently, refOf, runAttempt, type Attempt, type Work } from './jobs-attempt.ts';
import { jobSummary, resultOf } from './jobs-info.ts';
import { afterAttempt } from './jobs-outcome.ts';
import type { JobParts } from './jobs-parts.ts';
import type { JobEnd, JobRetry, StoredJob } from './ports.ts';

/** How often it is looked what is due, what is to be stopped and what nobody runs, in milliseconds. */
const lookMs = 1_000;
/** After so many looks what is past its retention is deleted. */
const looksPerSweep = 30;
const sweepLimit = 200;

const nameOf = ({ tenant, id }: Pick<StoredJob, 'tenant' | 'id'>): string => JSON.stringify([tenant, id]);

/**
 * Runs jobs. The row of a job says whose it is and which attempt; the conversation that it names is that attempt, so that
 * whoever finds a job running that nobody runs goes on with exactly the run that was begun, and begins none twice.
 */
export class JobWorker {
  readonly #parts: JobParts;
  readonly #running = new Map<string, Work>();
  readonly #ended = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  /** Those that run here by their rows, but not in fact, when it was looked last. */
  #strays = new Set<string>();
  /** How many jobs here need a place. */
  #places = 0;
  #draining = false;
  #looks = 0;
  /** The look that is under way, or was the last; and the one after it. */
  #looking: Promise<void> = Promise.resolve();
  #next: Promise<void> | null = null;
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: JobParts) {
    this.#parts = parts;
  }

  /** Begins to take jobs, and goes on with those that nobody runs. */
  start(): void {
    const { limits } = this.#parts;
    const look = (): void => {
      void this.look().finally(() => {
        if (!this.#closing.signal.aborted) this.#timer = setTimeout(look, lookMs).unref();
      });
    };
    look();
    if (limits.atOnce > 0) void this.#listen();
  }

  /** Takes jobs as soon as they are announced. Those that were begun before have their places first. */
  async #listen(): Promise<void> {
    await this.#looking;
    const { queue, limits } = this.#parts;
    if (!this.#draining) queue.start(limits.atOnce, () => this.#takeAll());
  }

  /** Takes no more jobs. */
  drain(): void {
    this.#draining = true;
  }

  /** Waits until what has ended is stored. What still runs is left to whoever takes over from this node. */
  async close(): Promise<void> {
    this.#draining = true;
    this.#closing.abort();
    clearTimeout(this.#timer);
    await this.#looking;
    await Promise.all(this.#ended);
    await this.#parts.queue.close();
  }

  /** One look at the rows of this node, after the one that is under way; whoever asks before it begins shares it. Never rejects. */
  look(): Promise<void> {
    this.#next ??= this.#looking.then(() => {
      this.#next = null;
      return this.#look();
    });
    return (this.#looking = this.#next);
  }

  async #look(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    try {
      await this.#takeLost();
      await this.#lookAtOwn();
      void this.#takeAll();
      if (this.#looks % looksPerSweep === 0) await this.#sweep();
      this.#looks += 1;
    } catch (error) {
      this.#parts.logger.warn({ err: error }, 'it could not be looked after the jobs; it is done again');
    }
  }

  /** Stops what is to be stopped, and goes on with what was not run here at the look before either. */
  async #lookAtOwn(): Promise<void> {
    const { jobs, lease } = this.#parts;
    const strays = new Set<string>();
    for (const job of await jobs.running(lease.node)) {
      const work = this.#running.get(nameOf(job));
      if (work && job.cancelling) this.#stop(work);
      else if (!work && this.#strays.has(nameOf(job))) await this.#goOnAsItStands(job);
      else if (!work) strays.add(nameOf(job));
    }
    this.#strays = strays;
  }

  /** The row may have been read before what ran here has changed it. */
  async #goOnAsItStands({ tenant, id }: StoredJob): Promise<void> {
    const { jobs, lease } = this.#parts;
    const now = await jobs.get(tenant, id);
    if (now?.status === 'running' && now.node === lease.node) void this.#goOn(now);
  }

  /** Deletes what is past its retention. */
  async #sweep(): Promise<void> {
    const { jobs, clock, limits } = this.#parts;
    const before = clock.now() - limits.keptMs;
    while (!this.#closing.signal.aborted && (await jobs.sweep(before, sweepLimit)) === sweepLimit);
  }

  /** Goes on with the jobs of nodes that are gone. */
  async #takeLost(): Promise<void> {
    const { jobs, lease, logger } = this.#parts;
    if (this.#draining || !lease.held) return;
    for (const job of await jobs.takeLost(lease.node)) {
      logger.info({ job: job.id, attempt: job.attempt }, 'took over a job that nobody ran any more');
      void this.#goOn(job);
    }
  }

  /** Takes one job after the other, as many at a time as have a place, until none is due. Never rejects. */
  async #takeAll(): Promise<void> {
    while (await this.#takeOne());
  }

  /** Takes the next job, if there is one and a place, and runs it until it needs its place no more. */
  async #takeOne(): Promise<boolean> {
    const { jobs, clock, lease, limits, logger } = this.#parts;
    if (this.#draining || !lease.held || this.#places >= limits.atOnce) return false;
    this.#places += 1;
    try {
      const taking = { node: lease.node, at: clock.now(), perTenant: limits.perTenant, conversation: newId('conv') };
      const job = await jobs.take(taking);
      if (job === null) return false;
      void this.#takeAll();
      await this.#begin(job);
      return true;
    } catch (error) {
      logger.warn({ err: error }, 'no job could be taken');
      return false;
    } finally {
      this.#places -= 1;
    }
  }

  /** Runs a job that was begun before, and uses its place for others then. */
  async #goOn(job: StoredJob): Promise<void> {
    this.#places += 1;
    await this.#begin(job);
    this.#places -= 1;
    await this.#takeAll();
  }

  /** Runs a job. Resolves at its end, or when it waits for a human and others may have its place. Never rejects. */
  #begin(job: StoredJob): Promise<void> {
    const name = nameOf(job);
    const free = Promise.withResolvers<void>();
    const work: Work = { job, cancelling: job.cancelling, waits: free.resolve };
    if (this.#running.has(name)) return Promise.resolve();
    this.#running.set(name, work);
    const ended = this.#run(work)
      .catch((error: unknown) => this.#parts.logger.error({ job: job.id, err: error }, 'a job was left without an end'))
      .finally(() => {
        this.#running.delete(name);
        this.#ended.delete(ended);
        free.resolve();
      });
    this.#ended.add(ended);
    return free.promise;
  }

  async #run(work: Work): Promise<void> {
    const { jobs, clock, logger } = this.#parts;
    const { job } = work;
    const attempt = await runAttempt(this.#parts, work, this.#closing.signal);
    if (attempt === null) return;
    const said = { result: attempt.outcome?.result ?? null, error: attempt.error };
    // Whoever has stopped the run has noted that before.
    const now = await this.#stored(() => jobs.get(job.tenant, job.id));
    const after = afterAttempt(now ?? job, said, randomFraction());
    const what = 'end' in after ? after.end : after.retry;
    logger.info({ job: job.id, attempt: job.attempt, ...what }, 'an attempt at a job has ended');
    if ('end' in after)
      await this.#finish(work, { ...after.end, at: clock.now(), begun: attempt.outcome !== null }, attempt);
    else await this.#retry(work, { ...after.retry, runAt: clock.now() + after.delayMs });
  }

  async #retry(work: Work, retry: JobRetry): Promise<void> {
    const { jobs, queue, clock } = this.#parts;
    const { tenant, id, attempt } = work.job;
    const queued = await this.#stored(() => jobs.retry(refOf(work.job), retry));
    if (queued) return queue.announce({ tenant, id, attempt, runAt: retry.runAt });
    // It is to be cancelled, unless it is not ours any more, or an answer was lost and it is queued.
    const end = { status: 'cancelled', at: clock.now(), begun: false, error: null, code: null } as const;
    await this.#finish(work, end, { outcome: null, error: null });
  }

  async #finish(work: Work, end: JobEnd, { outcome }: Attempt): Promise<void> {
    const { jobs, webhooks } = this.#parts;
    const { job } = work;
    const { tenant, id, key, webhookUrl, attempt } = job;
    const ended = { ...job, ...end, endedAt: end.at, node: null };
    const info = { ...jobSummary(ended), result: outcome && resultOf(outcome) };
    const details = { status: end.status, attempt, code: end.code };
    const ref = outcome && job.conversation !== null ? await this.#runOf(job) : null;
    const audit = { at: end.at, tenant, actor: key, action: 'job.end', ref, subject: id, details };
    const delivery = webhookUrl === null ? null : webhooks.delivery(tenant, webhookUrl, info);
    const stored = await this.#stored(() => jobs.finish(refOf(work.job), end, { audit, delivery }));
    if (stored && delivery !== null) webhooks.nudge();
  }

  async #runOf({ tenant, conversation }: StoredJob): Promise<{ conversation: string; turn: string } | null> {
    if (conversation === null) return null;
    const [first] = await this.#stored(() => this.#parts.turns.read(tenant, conversation, 0, 1));
    return first === undefined ? null : { conversation, turn: first.turn };
  }

  #stored<T>(ask: () => Promise<T>): Promise<T> {
    return patiently(this.#parts, this.#closing.signal, ask);
  }

  #stop(work: Work): void {
    work.cancelling = true;
    const { tenant, conversation } = work.job;
    if (conversation === null) return;
    this.#parts.engine.stopTurn(tenant, conversation).catch((error: unknown) => {
      this.#parts.logger.warn({ job: work.job.id, err: error }, 'a job could not be stopped; it is tried again');
    });
  }
}
