import { setTimeout as delay } from 'node:timers/promises';
import type { JobInfo, JobRequest, JobStatus, JobSummary } from '@sallyport/protocol';
import { fromCursor, ownKey, pageOf } from './conversations.ts';
import { SallyportError } from './errors.ts';
import { claimOf } from './idempotency.ts';
import { newId } from './ids.ts';
import { followJob, jobCursor, type JobItem } from './jobs-events.ts';
import { jobInfo, jobSummary } from './jobs-info.ts';
import type { JobParts } from './jobs-parts.ts';
import { ClaimTakenError, TooManyJobsError, type IdempotencyClaim, type NewJob, type StoredJob } from './ports.ts';
import type { Principal } from './principal.ts';

/** Farthest that a job may be put off, in milliseconds: 30 days. */
const farthestMs = 30 * 86_400_000;
/** Longest that a cancelled job is waited for, and how often it is looked, in milliseconds. */
const cancelMs = 5_000;
const lookMs = 50;
/** Seconds after which whoever has too many jobs is asked to come again. */
const fullSeconds = 30;

/** Which jobs are wanted. */
export interface JobsRequest {
  /** `next_cursor` of the page before. */
  readonly cursor?: string | undefined;
  readonly limit: number;
  readonly status?: JobStatus | undefined;
}

/** What a caller brings to a new job besides its body. */
export interface JobContext {
  readonly idempotencyKey: string | null;
}

/** Queries that run in the background: what the transports call. */
export interface Jobs {
  /**
   * Queues a job. Rejects, with nothing stored, as `startQuery` does for what may not be asked, with `validation_failed`
   * and `overloaded`, or with `idempotency_key_reused`. `replayed`: it is the job of an earlier request, as it stands.
   */
  create(
    principal: Principal,
    request: JobRequest,
    context: JobContext,
  ): Promise<{ readonly job: JobSummary; readonly replayed: boolean }>;
  /** Newest first. Rejects with `bad_cursor`. */
  list(principal: Principal, list: JobsRequest): Promise<{ items: JobSummary[]; next_cursor: string | null }>;
  /** Rejects with `job_not_found`, as do all that take an id: also where the principal may not see it. */
  get(principal: Principal, id: string): Promise<JobInfo>;
  /** Has a job never run, or its run stopped, and gives it as it stands then. What has ended stays as it is. */
  cancel(principal: Principal, id: string): Promise<JobInfo>;
  /** Its events after a cursor, up to its end. Rejects with `bad_cursor`. Aborting the signal ends the reading. */
  events(
    principal: Principal,
    id: string,
    request: { readonly after: string | undefined; readonly signal: AbortSignal },
  ): Promise<AsyncIterable<JobItem>>;
}

/** Makes the jobs as clients see them. `look` is called when a running job was cancelled. */
export function createJobs(parts: JobParts, look: () => void): Jobs {
  return new JobDesk(parts, look);
}

class JobDesk implements Jobs {
  readonly #parts: JobParts;
  readonly #look: () => void;

  constructor(parts: JobParts, look: () => void) {
    this.#parts = parts;
    this.#look = look;
  }

  async create(principal: Principal, body: JobRequest, { idempotencyKey }: JobContext) {
    const { jobs, queue } = this.#parts;
    const claim = claimOf(this.#parts, principal, idempotencyKey, ['job', body]);
    const earlier = await this.#earlier(principal, claim);
    if (earlier) return earlier;
    const job = await this.#allowed(principal, body);
    const { tenant, id, key, createdAt: at, priority, runAt, attempts } = job;
    const details = { priority, attempts, delayed: runAt > at };
    const audit = { at, tenant, actor: key, action: 'job.create', ref: null, subject: id, details };
    try {
      const stored = await jobs.create(job, this.#parts.limits.queued, claim, audit);
      queue.announce({ tenant, id, attempt: 0, runAt });
      return { job: jobSummary(stored), replayed: false };
    } catch (error) {
      if (error instanceof TooManyJobsError) throw tooMany(error);
      const quicker = error instanceof ClaimTakenError ? await this.#earlier(principal, claim) : null;
      if (quicker === null) throw SallyportError.from(error);
      return quicker;
    }
  }

  async list(principal: Principal, { cursor, limit, status }: JobsRequest) {
    const rows = await this.#parts.jobs.list({
      tenant: principal.tenant,
      key: ownKey(principal),
      status: status ?? null,
      before: cursor === undefined ? null : fromCursor(cursor),
      limit,
    });
    return pageOf(rows, limit, jobSummary);
  }

  async get(principal: Principal, id: string): Promise<JobInfo> {
    return await jobInfo(this.#parts, await this.#visible(principal, id));
  }

  async cancel(principal: Principal, id: string): Promise<JobInfo> {
    const { jobs, clock, webhooks } = this.#parts;
    const found = await this.#visible(principal, id);
    const { tenant, webhookUrl } = found;
    const at = clock.now();
    const ended = { ...jobSummary({ ...found, status: 'cancelled', endedAt: at }), result: null };
    const audit = { at, tenant, actor: principal.key, action: 'job.cancel', ref: null, subject: id, details: {} };
    const delivery = webhookUrl === null ? null : webhooks.delivery(tenant, webhookUrl, ended);
    let job = await jobs.cancel(tenant, id, at, { audit, delivery });
    this.#look();
    if (delivery !== null) webhooks.nudge();
    const due = clock.monotonic() + cancelMs;
    while (job?.status === 'running' && clock.monotonic() < due) {
      await delay(lookMs);
      job = await jobs.get(tenant, id);
    }
    if (job === null) throw new SallyportError('job_not_found');
    return await jobInfo(this.#parts, job);
  }

  async events(
    principal: Principal,
    id: string,
    { after, signal }: { readonly after: string | undefined; readonly signal: AbortSignal },
  ): Promise<AsyncIterable<JobItem>> {
    const job = await this.#visible(principal, id);
    const from = jobCursor(after);
    // One of another run is of one before: this one is told from its beginning.
    if (from.conversation !== null && from.conversation === job.conversation) {
      const run = await this.#parts.conversations.get(job.tenant, from.conversation);
      if (run !== null && from.cursor.seq > run.lastSeq) throw new SallyportError('bad_cursor');
    }
    return followJob(this.#parts, principal, () => this.#visible(principal, id), from, signal);
  }

  async #visible(principal: Principal, id: string): Promise<StoredJob> {
    const found = await this.#parts.jobs.get(principal.tenant, id);
    const own = ownKey(principal);
    if (found === null || (own !== null && found.key !== own)) throw new SallyportError('job_not_found');
    return found;
  }

  /** The job of an earlier request under the same claim. Rejects with `idempotency_key_reused` when that was another one. */
  async #earlier({ tenant }: Principal, claim: IdempotencyClaim | null) {
    if (claim === null) return null;
    const { jobs, clock } = this.#parts;
    const found = await jobs.claimed(tenant, claim.key, claim.idempotencyKey, clock.now());
    if (found === null) return null;
    if (found.hash !== claim.hash) throw new SallyportError('idempotency_key_reused');
    return { job: jobSummary(found.job), replayed: true };
  }

  /** The job as it is queued, where the principal may ask for it now. */
  async #allowed(principal: Principal, body: JobRequest): Promise<NewJob> {
    const { clock, engine, webhooks } = this.#parts;
    const { request, priority, attempts } = body;
    const at = clock.now();
    const asked = body.run_at ? Date.parse(body.run_at) : at;
    if (asked > at + farthestMs) throw tooFar();
    await engine.checkQuery(principal, request);
    const { tenant, key } = principal;
    const webhookUrl = body.webhook_url ?? null;
    if (webhookUrl !== null) await webhooks.check(tenant, webhookUrl);
    const runAt = Math.max(at, asked);
    return { tenant, id: newId('job'), key, request, priority, runAt, attempts, webhookUrl, createdAt: at };
  }
}

const tooFar = () =>
  new SallyportError('validation_failed', {
    issues: [{ loc: ['body', 'run_at'], msg: 'must be at most 30 days ahead', type: 'value_error' }],
  });

const tooMany = (cause: unknown) =>
  new SallyportError('overloaded', {
    detail: 'As many jobs are queued as may be. Try again after the given number of seconds.',
    retryAfter: fullSeconds,
    cause,
  });
