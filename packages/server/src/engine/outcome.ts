import type { PermissionDenial, RunResult, StopReason, Usage } from '@sallyport/protocol';
import type { Changes } from './changes.ts';
import { SallyportError } from './errors.ts';
import type { ModelCall, RunEnd, TurnEndState } from './ports.ts';

/** Why the service itself stopped a run. */
export type StopCause =
  | { readonly reason: 'timeout'; readonly seconds: number }
  | { readonly reason: 'max_turns'; readonly limit: number }
  | { readonly reason: 'max_budget' }
  | { readonly reason: 'client_left' }
  | { readonly reason: 'interrupt' }
  | { readonly reason: 'shutdown' }
  /** An admin has stopped it. */
  | { readonly reason: 'stopped' }
  /** The key that owns it is not valid any more. */
  | { readonly reason: 'key_gone' }
  | { readonly reason: 'failed'; readonly error: SallyportError };

/** All a result is made of. */
export interface OutcomeParts {
  readonly requestId: string;
  readonly conversation: string;
  readonly profileModel: string;
  readonly seconds: number;
  /** Most model calls of the run. */
  readonly maxTurns: number;
  readonly end: RunEnd | null;
  readonly stop: StopCause | null;
  /** What the runner rejected with, when there is no `end`. */
  readonly thrown: unknown;
  readonly toolsUsed: readonly string[];
  readonly denials: readonly PermissionDenial[];
  readonly changes: Changes | null;
}

/** A finished run: what clients read, how the turn is stored, and the error when it has a code. */
export interface Outcome {
  readonly result: RunResult;
  readonly state: TurnEndState;
  readonly error: SallyportError | null;
}

interface Ending {
  readonly stopReason: StopReason;
  readonly state: TurnEndState;
  readonly detail: string | null;
  readonly error: SallyportError | null;
}

const cut = (stopReason: StopReason, detail: string, state: TurnEndState = 'completed'): Ending => ({
  stopReason,
  state,
  detail,
  error: null,
});

const failed = (error: SallyportError): Ending => ({
  stopReason: 'error',
  state: 'failed',
  detail: error.detail,
  error,
});

function stopped(stop: StopCause): Ending {
  switch (stop.reason) {
    case 'timeout':
      return cut('timeout', `The run was stopped after its timeout of ${stop.seconds} seconds.`, 'interrupted');
    case 'max_turns':
      return cut('max_turns', `The run was stopped after ${stop.limit} model call(s), its max_turns.`);
    case 'max_budget':
      return cut('max_budget', 'The run was stopped because its budget is spent.');
    case 'client_left':
      return cut('interrupted', 'The run was stopped because its client left.', 'cancelled');
    case 'interrupt':
      return cut('interrupted', 'The run was interrupted.', 'interrupted');
    case 'shutdown':
      return cut('interrupted', 'The run was stopped because the service is stopping.', 'interrupted');
    case 'stopped':
      return cut('interrupted', 'The run was stopped by an admin.', 'interrupted');
    case 'key_gone':
      return cut('interrupted', 'The run was stopped because its key is not valid any more.', 'interrupted');
    case 'failed':
      return failed(stop.error);
  }
}

function ending(parts: OutcomeParts): Ending {
  const { end, stop, thrown } = parts;
  // A run that came to its own end while it was being stopped has ended well, unless something of ours failed.
  const finished = end?.reason === 'end_turn' && stop?.reason !== 'failed';
  if (stop && !finished) return stopped(stop);
  if (!end) return failed(SallyportError.from(thrown));
  switch (end.reason) {
    case 'end_turn':
      return { stopReason: 'end_turn', state: 'completed', detail: null, error: null };
    case 'refusal':
      return cut('refusal', 'Claude declined to answer.');
    case 'max_budget':
      return stopped({ reason: 'max_budget' });
    case 'max_turns':
      return stopped({ reason: 'max_turns', limit: parts.maxTurns });
    case 'interrupted':
    case 'stopped':
      return cut('interrupted', end.failure?.detail ?? 'The run was stopped.', 'interrupted');
    case 'freed':
      return failed(new SallyportError('internal', { cause: new Error('a turn ended while it waited') }));
    case 'error':
      return failure(end.failure);
  }
}

function failure(given: RunEnd['failure']): Ending {
  if (!given) return failed(new SallyportError('internal', { cause: 'a failed run without a failure' }));
  if (given.code === null) return cut('error', given.detail, 'failed');
  const { code, cause, retryAfter } = given;
  return failed(new SallyportError(code, { cause, ...(retryAfter !== undefined && { retryAfter }) }));
}

export function sumUsage(calls: readonly ModelCall[]): Usage {
  const sum = (pick: (usage: Usage) => number) => calls.reduce((total, call) => total + pick(call.usage), 0);
  return {
    input_tokens: sum((usage) => usage.input_tokens),
    output_tokens: sum((usage) => usage.output_tokens),
    cache_read_tokens: sum((usage) => usage.cache_read_tokens),
    cache_write_tokens: sum((usage) => usage.cache_write_tokens),
  };
}

/** Puts a finished run together. Pure. */
export function outcomeOf(parts: OutcomeParts): Outcome {
  const { stopReason, state, detail, error } = ending(parts);
  const calls = parts.end?.calls ?? [];
  const usage = sumUsage(calls);
  const result: RunResult = {
    success: stopReason === 'end_turn',
    error: detail,
    execution_time: Math.round(parts.seconds * 1000) / 1000,
    tokens_used: usage.input_tokens + usage.output_tokens + usage.cache_read_tokens + usage.cache_write_tokens,
    request_id: parts.requestId,
    session_id: parts.conversation,
    model: parts.end?.model ?? parts.profileModel,
    stop_reason: stopReason,
    usage,
    cost_usd: calls.reduce((total, call) => total + (call.costUsd ?? 0), 0),
    structured_output: stopReason === 'end_turn' ? (parts.end?.structuredOutput ?? null) : null,
    tools_used: [...parts.toolsUsed],
    permission_denials: [...parts.denials],
    changes: parts.changes?.diff ?? null,
    changes_truncated: parts.changes?.truncated ?? false,
    changed_paths: [...(parts.changes?.paths ?? [])],
    cached: false,
  };
  return { result, state, error };
}

/** True when the result is of a run that was cut by an orderly stop of the service, and by nobody else. */
export const wasCutByStop = ({ stop_reason: reason, error }: RunResult): boolean =>
  reason === 'interrupted' && error === stopped({ reason: 'shutdown' }).detail;

/** The result of a turn that an earlier process of the service left without an end. */
export function abandonedResult(conversation: string, model: string): RunResult {
  const { result } = outcomeOf({
    requestId: '',
    conversation,
    profileModel: model,
    seconds: 0,
    maxTurns: 0,
    end: null,
    stop: { reason: 'shutdown' },
    thrown: null,
    toolsUsed: [],
    denials: [],
    changes: null,
  });
  return { ...result, error: 'The run was cut because the service ended.' };
}
