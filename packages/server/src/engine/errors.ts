import { errorCatalogue, type ErrorCode, type ValidationIssue } from '@sallyport/protocol';

/** What an error may carry besides its code. */
export interface ErrorExtras {
  /** Internal: for logs only, never for a client. */
  readonly cause?: unknown;
  /** Replaces the catalogue's sentence where a more exact one is safe to show. */
  readonly detail?: string;
  /** Seconds after which the same request can succeed; default: the usual ones of the code, if it has any. */
  readonly retryAfter?: number;
  /** Which fields are wrong, for `validation_failed`. */
  readonly issues?: readonly ValidationIssue[];
}

/** Seconds that a client is asked to wait where nobody knows for how long it is refused. */
const usualWait: Readonly<Partial<Record<ErrorCode, number>>> = {
  not_ready: 2,
  overloaded: 1,
  upstream_rate_limited: 10,
  upstream_overloaded: 10,
};

/** The one error of the service: a code of the catalogue, a public sentence, and a cause that only logs see. */
export class SallyportError extends Error {
  readonly code: ErrorCode;
  readonly detail: string;
  readonly retryAfter: number | undefined;
  readonly issues: readonly ValidationIssue[] | undefined;

  constructor(code: ErrorCode, extras: ErrorExtras = {}) {
    const detail = extras.detail ?? errorCatalogue[code].detail;
    super(`${code}: ${detail}`, extras.cause === undefined ? undefined : { cause: extras.cause });
    this.name = 'SallyportError';
    this.code = code;
    this.detail = detail;
    this.retryAfter = extras.retryAfter ?? usualWait[code];
    this.issues = extras.issues;
  }

  get status(): number {
    return errorCatalogue[this.code].status;
  }

  get retryable(): boolean {
    return errorCatalogue[this.code].retryable;
  }

  /** Makes any thrown value an error of the catalogue: what is not ours becomes `internal`, a disk that takes nothing `storage_full`. */
  static from(thrown: unknown): SallyportError {
    if (thrown instanceof SallyportError) return thrown;
    return new SallyportError(takesNothing(thrown) ? 'storage_full' : 'internal', { cause: thrown });
  }
}

const diskErrors: ReadonlySet<unknown> = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EIO']);

/** Full, read-only or broken. */
function takesNothing(thrown: unknown): boolean {
  if (!(thrown instanceof Error)) return false;
  const { code, errcode } = thrown as { code?: unknown; errcode?: unknown };
  return diskErrors.has(code) || errcode === 13; // 13: SQLITE_FULL
}
