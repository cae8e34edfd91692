import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SDKResultMessage } from '@anthropic-ai/claude-agent-sdk';
import { errorCatalogue } from '@sallyport/protocol';
import { SallyportError } from '../engine/errors.ts';
import { crashOf, outcomeOf, type Evidence } from './failures.ts';

const secret = 'API Error: http://gateway.internal said no';

/** A result as Claude Code gives it; API errors come as `success` with `is_error`. */
const result = (fields: object = {}) =>
  ({
    type: 'result',
    subtype: 'success',
    is_error: false,
    terminal_reason: 'completed',
    stop_reason: 'end_turn',
    result: 'text',
    ...fields,
  }) as unknown as SDKResultMessage;

const apiError = (fields: object = {}) =>
  result({ is_error: true, terminal_reason: 'api_error', stop_reason: 'stop_sequence', result: secret, ...fields });

const outcome = (evidence: Partial<Evidence>) =>
  outcomeOf({
    result: null,
    cause: null,
    stop: null,
    batchStopped: false,
    upstream: null,
    budgetReached: false,
    callsReached: false,
    structured: false,
    ...evidence,
  });

const aborted = { kind: 'aborted' } as const;
const broken = { kind: 'broken', error: new SallyportError('storage_full', { cause: 'disk' }) } as const;
const upstream = { code: 'upstream_overloaded', retryAfter: 7, cause: 'status 529' } as const;
const interrupted = result({ subtype: 'error_during_execution', is_error: true, terminal_reason: 'aborted_streaming' });

test('a completed run ends its turn', () => {
  assert.deepEqual(outcome({ result: result() }), { reason: 'end_turn', failure: null, structuredOutput: null });
  assert.equal(outcome({ result: result({ structured_output: { a: 1 } }), structured: true }).reason, 'end_turn');
  assert.deepEqual(outcome({ result: result({ structured_output: [0] }), structured: true }).structuredOutput, [0]);
});

test('what else may look like success is none', () => {
  for (const fields of [
    { is_error: true },
    { terminal_reason: 'hook_stopped' },
    { terminal_reason: 'api_error' },
    { terminal_reason: undefined },
    { subtype: 'error_during_execution', errors: [] },
    { subtype: 'error_max_turns', errors: [], terminal_reason: 'max_turns', is_error: true },
  ]) {
    const { reason, failure } = outcome({ result: result(fields) });
    assert.equal(reason, 'error', JSON.stringify(fields));
    assert.notEqual(failure?.code, null);
  }
});

test('a missing or misfit structured answer is a failed run without a code', () => {
  const misfit = result({ subtype: 'error_max_structured_output_retries', is_error: true, errors: [secret] });
  for (const evidence of [{ result: result() }, { result: misfit }]) {
    const { reason, failure } = outcome({ ...evidence, structured: true });
    assert.equal(reason, 'error');
    assert.equal(failure?.code, null);
    assert.match(failure?.detail ?? '', /output schema/);
  }
});

test('the token limit is a failed run without a code', () => {
  for (const fields of [{ stop_reason: 'max_tokens' }]) {
    assert.equal(outcome({ result: result(fields) }).failure?.code, null);
  }
  const { failure } = outcome({ result: apiError({ api_error: 'max_output_tokens' }) });
  assert.deepEqual([failure?.code, /longer/.test(failure?.detail ?? '')], [null, true]);
});

test('a refusal is a refusal, also when it looks like an API error', () => {
  assert.equal(outcome({ result: apiError({ stop_reason: 'refusal' }) }).reason, 'refusal');
  assert.equal(outcome({ result: result({ stop_reason: 'refusal' }) }).reason, 'refusal');
});

test('stopping after a batch is only what the host asked for', () => {
  const stopped = result({ terminal_reason: 'hook_stopped' });
  assert.equal(outcome({ result: stopped, batchStopped: true }).reason, 'stopped');
  assert.equal(outcome({ result: stopped }).failure?.code, 'internal');
  assert.equal(outcome({ result: result({ structured_output: {} }), batchStopped: true }).reason, 'end_turn');
});

test('the broker is believed before Claude Code', () => {
  const { failure } = outcome({ result: apiError({ api_error_status: 400 }), upstream });
  assert.deepEqual(failure, {
    code: 'upstream_overloaded',
    detail: errorCatalogue.upstream_overloaded.detail,
    retryAfter: 7,
    cause: 'status 529',
  });
  assert.equal(outcome({ result: apiError({ api_error_status: 400 }), budgetReached: true }).reason, 'max_budget');
});

test('without a word of the broker, the status that Claude Code saw is mapped', () => {
  const rows: [object, string][] = [
    [{ api_error_status: 400 }, 'upstream_rejected'],
    [{ api_error_status: 400, terminal_reason: 'prompt_too_long' }, 'prompt_too_long'],
    [{ api_error_status: 401 }, 'upstream_refused_credentials'],
    [{ api_error_status: 402 }, 'upstream_refused_credentials'],
    [{ api_error_status: 403 }, 'upstream_refused_credentials'],
    [{ api_error_status: 404 }, 'upstream_model_not_found'],
    [{ api_error_status: 413, terminal_reason: 'image_error' }, 'prompt_too_long'],
    [{ api_error_status: 418 }, 'upstream_rejected'],
    [{ api_error_status: 429 }, 'upstream_rate_limited'],
    [{ api_error_status: 500 }, 'upstream_error'],
    [{ api_error_status: 503 }, 'upstream_error'],
    [{ api_error_status: 504 }, 'upstream_timeout'],
    [{ api_error_status: 529 }, 'upstream_overloaded'],
    [{ api_error_status: null }, 'upstream_error'],
  ];
  for (const [fields, code] of rows) {
    assert.equal(outcome({ result: apiError(fields) }).failure?.code, code, JSON.stringify(fields));
  }
});

test('a missing sandbox is missing isolation', () => {
  const errors = ['Sandbox required but unavailable: bubblewrap (bwrap) not installed'];
  const early = { subtype: 'error_during_execution', is_error: true, terminal_reason: undefined, errors };
  assert.equal(outcome({ result: result(early) }).failure?.code, 'isolation_unavailable');
  const named = { ...early, errors: [], startup_failure_reason: 'sandbox_required_unavailable' };
  assert.equal(outcome({ result: result(named) }).failure?.code, 'isolation_unavailable');
  assert.equal(crashOf(new Error('Error: sandbox required but unavailable')).code, 'isolation_unavailable');
});

test('a process that dies without a word has crashed', () => {
  const { reason, failure } = outcome({ cause: { exit: { signal: 'SIGKILL' } } });
  assert.deepEqual([reason, failure?.code], ['error', 'agent_crashed']);
  assert.deepEqual(failure?.cause, { exit: { signal: 'SIGKILL' } });
});

test('an abort is an interruption, unless the run was complete or had failed before', () => {
  assert.equal(outcome({ stop: aborted }).reason, 'interrupted');
  assert.equal(outcome({ stop: aborted, result: interrupted }).reason, 'interrupted');
  assert.equal(outcome({ stop: aborted, upstream, budgetReached: true }).reason, 'interrupted');
  assert.equal(outcome({ stop: aborted, result: result() }).reason, 'end_turn');
});

test('what broke on our side comes first', () => {
  for (const evidence of [{ result: result() }, { upstream }, { budgetReached: true }, {}]) {
    assert.equal(outcome({ ...evidence, stop: broken }).failure?.code, 'storage_full');
  }
});

test('an error of the catalogue passes through a crash', () => {
  const error = new SallyportError('workspace_not_accessible');
  assert.equal(crashOf(error), error);
});

test('no text of Claude Code or of the upstream is in what a client reads', () => {
  for (const evidence of [
    { result: apiError({ api_error_status: 500 }) },
    { result: apiError(), upstream: { ...upstream, cause: secret } },
    { cause: new Error(secret) },
    { stop: { kind: 'broken', error: SallyportError.from(new Error(secret)) } as const },
  ]) {
    const { failure } = outcome(evidence);
    assert.ok(failure !== null && !failure.detail.includes('gateway'), JSON.stringify(failure?.detail));
  }
});
