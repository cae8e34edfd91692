import type { ErrorCode } from '@sallyport/protocol';
import type { UpstreamFailure } from '../engine/ports.ts';

/** Stands in the message of every final failure that Claude Code is given, so that its text is known as ours. */
export const finalMarker = 'sallyport_final';

/**
 * A final failure in the shape of Anthropic's errors, sent with status 400. The type matters: Claude Code answers a 400
 * of any other type by leaving out one beta after the other, each time with a new call.
 */
export const finalFailureBody = errorBody('billing_error', `${finalMarker}: the model call failed`);

export const notFoundBody = errorBody('not_found_error', 'Not found');

function errorBody(type: string, message: string): string {
  return JSON.stringify({ type: 'error', error: { type, message } });
}

/** The failure behind an error status of the upstream. `retryAfter` in seconds. */
export function failureOfStatus(status: number, body: string, retryAfter: number | undefined): UpstreamFailure {
  const { type, message } = readError(body);
  const cause = `status ${status} ${type} ${message}`.trim();
  return { code: codeOfStatus(status, message), retryAfter, cause };
}

/** The failure behind an `error` event that came after status 200. */
export function failureOfErrorEvent(error: Record<string, unknown>): UpstreamFailure {
  const type = textOf(error['type']);
  const cause = `error event ${type} ${textOf(error['message'])}`.trim();
  return { code: type === 'overloaded_error' ? 'upstream_overloaded' : 'upstream_error', retryAfter: undefined, cause };
}

/** The upstream could not be reached, broke off, or answered nonsense. */
export function upstreamError(cause: string): UpstreamFailure {
  return { code: 'upstream_error', retryAfter: undefined, cause };
}

/** No byte came in time. */
export function upstreamTimeout(cause: string): UpstreamFailure {
  return { code: 'upstream_timeout', retryAfter: undefined, cause };
}

/** The call was not passed, for a reason of ours. */
export function refusal(code: ErrorCode, cause: string): UpstreamFailure {
  return { code, retryAfter: undefined, cause };
}

/** Characters of a cause that are kept. */
const maxCauseLength = 300;

/** The failure without any of the keys, should the upstream have named one, and with a cause of bounded length. */
export function withoutSecrets(failure: UpstreamFailure, secrets: Iterable<string>): UpstreamFailure {
  let { cause } = failure;
  for (const secret of secrets) cause = cause.replaceAll(secret, '[key]');
  return { ...failure, cause: cause.slice(0, maxCauseLength) };
}

/** True for failures that say something of the upstream itself, not of one request. */
export function concernsUpstream(code: ErrorCode): boolean {
  return unhealthy.has(code);
}

/** True for failures after which the same call may succeed with another key or at another upstream. */
export function mayPassElsewhere(code: ErrorCode): boolean {
  return unhealthy.has(code) || code === 'upstream_rate_limited';
}

const unhealthy = new Set<ErrorCode>([
  'upstream_refused_credentials',
  'upstream_overloaded',
  'upstream_error',
  'upstream_timeout',
]);

function codeOfStatus(status: number, message: string): ErrorCode {
  switch (status) {
    case 400:
      if (/prompt is too long|exceeds? (the )?context (limit|window)/i.test(message)) return 'prompt_too_long';
      return /credit balance/i.test(message) ? 'upstream_refused_credentials' : 'upstream_rejected';
    case 401:
    case 402:
    case 403:
      return 'upstream_refused_credentials';
    case 404:
      return 'upstream_model_not_found';
    case 413:
      return 'prompt_too_long';
    case 429:
      return 'upstream_rate_limited';
    case 529:
      return 'upstream_overloaded';
    default:
      return status >= 400 && status < 500 ? 'upstream_rejected' : 'upstream_error';
  }
}

function readError(body: string): { type: string; message: string } {
  try {
    const { error } = JSON.parse(body) as { error?: { type?: unknown; message?: unknown } };
    return { type: textOf(error?.type), message: textOf(error?.message) };
  } catch {
    return { type: '', message: '' };
  }
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
