import type { RunResult } from '@sallyport/protocol';
import type { SallyportError } from './errors.ts';
import type { JobEnd, JobRetry, StoredJob } from './ports.ts';

/** How the run of an attempt ended. */
export interface AttemptEnd {
  /** Null: there is none, as nothing has run. */
  readonly result: RunResult | null;
  /** Set when it failed for a reason that has a code. */
  readonly error: SallyportError | null;
}

/** What becomes of a job then. */
export type AfterAttempt =
  | { readonly end: Pick<JobEnd, 'status' | 'error' | 'code'> }
  | { readonly retry: Omit<JobRetry, 'runAt'>; readonly delayMs: number };

const firstPauseMs = 1_000;
const longestPauseMs = 60_000;

/**
 * Milliseconds before the attempt after so many: from one second, doubled each time up to a minute, less up to a half by
 * `fraction` (0 to 1), so that what failed together does not come again together.
 */
export function pauseMs(attempts: number, fraction: number): number {
  const whole = Math.min(longestPauseMs, firstPauseMs * 2 ** Math.max(0, attempts - 1));
  return Math.round(whole * (1 - fraction / 2));
}

/**
 * Decides. What failed in a way that may pass is tried again; where nothing of it has run that does not count as an
 * attempt. A run that was stopped ends the job, as cancelled where a client has asked for that.
 */
export function afterAttempt(
  job: Pick<StoredJob, 'attempt' | 'attempts' | 'cancelling'>,
  { result, error }: AttemptEnd,
  fraction: number,
): AfterAttempt {
  if (result?.success) return { end: { status: 'completed', error: null, code: null } };
  if (job.cancelling) return { end: { status: 'cancelled', error: null, code: null } };
  const detail = error?.detail ?? result?.error ?? null;
  if (error?.retryable && (result === null || job.attempt < job.attempts)) {
    const waitMs = Math.max(pauseMs(job.attempt, fraction), (error.retryAfter ?? 0) * 1000);
    return { retry: { counts: result !== null, error: error.detail, code: error.code }, delayMs: waitMs };
  }
  return { end: { status: 'failed', error: detail, code: error?.code ?? null } };
}
