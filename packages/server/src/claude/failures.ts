import type { SDKResultMessage } from '@anthropic-ai/claude-agent-sdk';
import type { ErrorCode } from '@sallyport/protocol';
import { SallyportError } from '../engine/errors.ts';
import type { RunEnd, UpstreamFailure } from '../engine/ports.ts';

/** Why the runner itself ended a run. */
export type StopCause =
  /** Somebody stopped it. */
  | { readonly kind: 'aborted' }
  /** Something of ours failed. */
  | { readonly kind: 'broken'; readonly error: SallyportError }
  /** A human is to decide about this call, and nobody waits for it here. */
  | { readonly kind: 'freed'; readonly toolUseId: string }
  /** Claude Code was to go on with a turn, and did not. */
  | { readonly kind: 'abandoned' };

/** All that is known of a run when it is over. */
export interface Evidence {
  /** Claude Code's own account, null when it gave none. */
  readonly result: SDKResultMessage | null;
  /** What reading its messages threw, or how its process ended. For logs only. */
  readonly cause: unknown;
  readonly stop: StopCause | null;
  /** True when the run was told to stop after a batch of tool calls. */
  readonly batchStopped: boolean;
  /** The broker's record. */
  readonly upstream: UpstreamFailure | null;
  readonly budgetReached: boolean;
  readonly callsReached: boolean;
  /** True when the profile asks for a structured answer. */
  readonly structured: boolean;
}

/** How a run ended. */
export type Outcome = Pick<RunEnd, 'reason' | 'failure' | 'structuredOutput'>;

const sentences = {
  noStructuredOutput: 'Claude did not give an answer that fits the output schema.',
  maxTokens: 'The answer was longer than the model may write in one message.',
  abandoned: 'Claude Code did not take the turn up again.',
};

/** Says how a run ended. The broker's record and our own causes come before what Claude Code says of itself. */
export function outcomeOf(evidence: Evidence): Outcome {
  const { result, stop, upstream } = evidence;
  if (stop?.kind === 'broken') return failed(stop.error);
  if (result !== null && completed(result)) return answered(result, evidence.structured);
  if (stop?.kind === 'aborted') return ended('interrupted');
  if (stop?.kind === 'freed') return ended('freed');
  if (stop?.kind === 'abandoned') {
    return { ...ended('interrupted'), failure: { code: null, detail: sentences.abandoned } };
  }
  if (evidence.budgetReached) return ended('max_budget');
  if (evidence.callsReached) return ended('max_turns');
  if (upstream !== null) {
    const { code, retryAfter, cause } = upstream;
    return failed(new SallyportError(code, retryAfter === undefined ? { cause } : { cause, retryAfter }));
  }
  if (result === null) return failed(crashOf(evidence.cause));
  if (result.stop_reason === 'refusal') return ended('refusal');
  if (evidence.batchStopped && result.terminal_reason === 'hook_stopped') return ended('stopped');
  return failedResult(result);
}

/** True when Claude Code says that it is done. */
function completed(result: SDKResultMessage): boolean {
  return result.subtype === 'success' && !result.is_error && result.terminal_reason === 'completed';
}

function answered(result: SDKResultMessage, structured: boolean): Outcome {
  const value = result.subtype === 'success' ? result.structured_output : undefined;
  if (structured && value === undefined) return unusable(sentences.noStructuredOutput);
  if (result.stop_reason === 'refusal') return ended('refusal');
  if (result.stop_reason === 'max_tokens') return unusable(sentences.maxTokens);
  return { reason: 'end_turn', failure: null, structuredOutput: value ?? null };
}

/** A result that tells of an error the broker knows nothing of. */
function failedResult(result: SDKResultMessage): Outcome {
  if (result.subtype === 'error_max_structured_output_retries') return unusable(sentences.noStructuredOutput);
  const said = facts(result);
  if (said.apiError === 'max_output_tokens') return unusable(sentences.maxTokens);
  return failed(new SallyportError(codeOf(said), { cause: new Error(`Claude Code said ${JSON.stringify(said)}`) }));
}

/** What logs may know of a result: no text of the model, no prompt. */
interface ResultFacts {
  readonly subtype: string;
  readonly terminalReason: string | undefined;
  readonly stopReason: string | null;
  readonly apiError: unknown;
  readonly apiStatus: number | null;
  readonly startup: unknown;
  readonly errors: readonly string[];
}

function facts(result: SDKResultMessage): ResultFacts {
  const { api_error: apiError, startup_failure_reason: startup } = result as unknown as Record<string, unknown>;
  return {
    subtype: result.subtype,
    terminalReason: result.terminal_reason,
    stopReason: result.stop_reason,
    apiError,
    apiStatus: result.subtype === 'success' ? (result.api_error_status ?? null) : null,
    startup,
    errors: result.subtype === 'success' ? [] : result.errors,
  };
}

const codeOfStatus: Readonly<Record<number, ErrorCode>> = {
  400: 'upstream_rejected',
  401: 'upstream_refused_credentials',
  402: 'upstream_refused_credentials',
  403: 'upstream_refused_credentials',
  404: 'upstream_model_not_found',
  413: 'prompt_too_long',
  429: 'upstream_rate_limited',
  504: 'upstream_timeout',
  529: 'upstream_overloaded',
};

function codeOf({ startup, errors, terminalReason, apiStatus }: ResultFacts): ErrorCode {
  if (startup === 'sandbox_required_unavailable' || errors.some((text) => /^sandbox required/i.test(text))) {
    return 'isolation_unavailable';
  }
  // The second: Claude Code itself saw that the next call would not fit.
  if (terminalReason === 'prompt_too_long' || terminalReason === 'blocking_limit') return 'prompt_too_long';
  if (apiStatus !== null) return codeOfStatus[apiStatus] ?? (apiStatus >= 500 ? 'upstream_error' : 'upstream_rejected');
  return terminalReason === 'api_error' ? 'upstream_error' : 'internal';
}

/** The error of a run that gave no result, or of a process that did not start. */
export function crashOf(cause: unknown): SallyportError {
  if (cause instanceof SallyportError) return cause;
  const sandbox = cause instanceof Error && /sandbox required/i.test(cause.message);
  return new SallyportError(sandbox ? 'isolation_unavailable' : 'agent_crashed', { cause });
}

function ended(reason: Outcome['reason']): Outcome {
  return { reason, failure: null, structuredOutput: null };
}

/** Claude ended, but what it gave cannot be used: an error of the run, not of the service. */
function unusable(detail: string): Outcome {
  return { reason: 'error', failure: { code: null, detail }, structuredOutput: null };
}

function failed(error: SallyportError): Outcome {
  const { code, detail, retryAfter, cause } = error;
  return {
    reason: 'error',
    failure: { code, detail, ...(retryAfter === undefined ? {} : { retryAfter }), cause: cause ?? error },
    structuredOutput: null,
  };
}
