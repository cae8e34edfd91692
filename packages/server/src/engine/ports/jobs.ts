import type { ErrorCode, JobStatus, QueryRequest } from '@sallyport/protocol';
import type { AuditEntry } from './guard.ts';
import type { IdempotencyClaim } from './store.ts';
import type { NewDelivery } from './webhooks.ts';

/** A job that is to be queued. */
export interface NewJob {
  readonly tenant: string;
  readonly id: string;
  /** Name of the key that owns it, and that its runs act for. */
  readonly key: string;
  /** The request as it was parsed. */
  readonly request: QueryRequest;
  /** 0 to 9; higher ones begin first. */
  readonly priority: number;
  /** It begins then or later. */
  readonly runAt: number;
  /** Most attempts. */
  readonly attempts: number;
  /** Told of its end. */
  readonly webhookUrl: string | null;
  readonly createdAt: number;
}

/** A job as it stands, without its request, which may be large. */
export interface StoredJob extends Omit<NewJob, 'request'> {
  readonly status: JobStatus;
  /** Attempts that were begun, but those of which nothing has run. */
  readonly attempt: number;
  /** The node that runs it; null unless it runs. */
  readonly node: string | null;
  /** Id of the conversation of the attempt, of which it alone knows before it is accepted; null before the first. */
  readonly conversation: string | null;
  /** True when that conversation is there, or was. */
  readonly begun: boolean;
  /** True when its run is to be stopped. */
  readonly cancelling: boolean;
  /** Why it failed, or is tried again. */
  readonly error: string | null;
  readonly code: ErrorCode | null;
  readonly startedAt: number | null;
  readonly endedAt: number | null;
}

/**
 * Names a running attempt and the right to write it. Writes that name another one than runs are refused: no two have the
 * same conversation, also where the first was no attempt that counts.
 */
export interface JobRef {
  readonly tenant: string;
  readonly id: string;
  readonly conversation: string;
  readonly node: string;
}

/** How a job ended. */
export interface JobEnd {
  readonly status: Extract<JobStatus, 'completed' | 'failed' | 'cancelled'>;
  readonly at: number;
  /** True: something has run, in the conversation of the attempt. */
  readonly begun: boolean;
  readonly error: string | null;
  readonly code: ErrorCode | null;
}

/** What is stored with a change. */
export interface JobTold {
  readonly audit: AuditEntry;
  /** The webhook that tells of the end. */
  readonly delivery: NewDelivery | null;
}

/** When and why an attempt is made again. */
export interface JobRetry {
  readonly runAt: number;
  /** False: nothing has run, so that the attempt does not count. */
  readonly counts: boolean;
  readonly error: string;
  readonly code: ErrorCode;
}

/** Which jobs are listed, newest first. */
export interface JobFilter {
  readonly tenant: string;
  /** Null: of every key of the tenant. */
  readonly key: string | null;
  /** Null: of any status. */
  readonly status: JobStatus | null;
  readonly before: { readonly createdAt: number; readonly id: string } | null;
  readonly limit: number;
}

/** Who takes a job, and within what. */
export interface JobTaking {
  readonly node: string;
  readonly at: number;
  /** Most jobs of a tenant that run at a time, on all nodes together; 0: no bound. */
  readonly perTenant: number;
  /** Id of the conversation that the attempt will have. */
  readonly conversation: string;
}

/** Thrown when a tenant has as many jobs queued as it may. */
export class TooManyJobsError extends Error {
  constructor() {
    super('the tenant has as many jobs queued as it may');
    this.name = 'TooManyJobsError';
  }
}

/**
 * Jobs. A row alone decides what becomes of its job; each change is a compare-and-set on its state. A line for the audit
 * log is appended in the transaction of the change it tells of, and not when nothing changed; so is the delivery of the
 * webhook that an end causes.
 */
export interface JobStore {
  /**
   * Queues a job. Throws `ClaimTakenError` when there is a job under its claim, and `TooManyJobsError` when `mostQueued`
   * of the tenant are queued.
   */
  create(job: NewJob, mostQueued: number, claim: IdempotencyClaim | null, audit: AuditEntry): Promise<StoredJob>;
  /** The job under an `Idempotency-Key` that has not expired; null when there is none. */
  claimed(
    tenant: string,
    key: string,
    idempotencyKey: string,
    now: number,
  ): Promise<{ readonly hash: string; readonly job: StoredJob } | null>;
  /** Null when the tenant has no such job. */
  get(tenant: string, id: string): Promise<StoredJob | null>;
  list(filter: JobFilter): Promise<StoredJob[]>;
  /**
   * Takes the job that is next: compare-and-set from queued, and due, to running. Of the tenants that have one the one is
   * served of which the fewest run, and of those the one that was served longest ago; of a tenant's the one of the highest
   * priority that is due for longest. Null when none is due, or each of their tenants runs as many as it may.
   */
  take(taking: JobTaking): Promise<StoredJob | null>;
  /** Keeps that the conversation of the attempt is there. False when another attempt or node has it, or it has ended. */
  begun(ref: JobRef): Promise<boolean>;
  /** Queues the attempt, or the next one, again. False like `begun`, and when the job is to be cancelled. */
  retry(ref: JobRef, retry: JobRetry): Promise<boolean>;
  /** Ends a running job, once. False like `begun`, and when it is to end as cancelled though nobody has cancelled it. */
  finish(ref: JobRef, end: JobEnd, told: JobTold): Promise<boolean>;
  /**
   * Ends a queued job as cancelled, and has a running one stopped by whoever runs it; the webhook is of the first only.
   * Gives the job as it stands then; null when there is none. What has ended stays as it is.
   */
  cancel(tenant: string, id: string, at: number, told: JobTold): Promise<StoredJob | null>;
  /** Has the run of a conversation stopped, if it is a job's: it is about to be deleted. */
  cancelRun(tenant: string, conversation: string): Promise<void>;
  /** The request of a job; null when there is none. */
  request(tenant: string, id: string): Promise<QueryRequest | null>;
  /** Jobs that run on a node. */
  running(node: string): Promise<StoredJob[]>;
  /** Gives the running jobs of nodes that are not in the list of nodes to the node `by`, and gives them. */
  takeLost(by: string): Promise<StoredJob[]>;
  /** Deletes up to `limit` jobs that ended before a time and gives how many. */
  sweep(before: number, limit: number): Promise<number>;
}

/** What is told of a job that was queued. */
export interface DueJob {
  readonly tenant: string;
  readonly id: string;
  /** Attempts that were begun before. */
  readonly attempt: number;
  readonly runAt: number;
}

/**
 * Tells nodes that a job is due, so that none waits until the rows are looked at. It may lose a word, repeat it, or tell
 * it too early or late: whoever is told takes what the rows say is next, whichever job that is.
 */
export interface JobQueue {
  /** Says that a job is queued: some node is told when it is due. Never throws. */
  announce(job: DueJob): void;
  /** From now on calls `work` when a job is due, so many times at once at most. It takes what is due; it never rejects. */
  start(slots: number, work: () => Promise<void>): void;
  /** Calls `work` no more, and lets go of what it holds. */
  close(): Promise<void>;
}
