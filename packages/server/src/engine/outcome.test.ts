import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SallyportError } from './errors.ts';
import { outcomeOf, type OutcomeParts, type StopCause } from './outcome.ts';
import type { RunEnd } from './ports.ts';

const end = (fields: Partial<RunEnd>): RunEnd => ({
  reason: 'end_turn',
  failure: null,
  structuredOutput: null,
  model: 'm',
  calls: [],
  ...fields,
});
const outcome = (fields: Partial<OutcomeParts>) =>
  outcomeOf({
    requestId: 'r',
    conversation: 'c',
    profileModel: 'profile-model',
    seconds: 1.23456,
    maxTurns: 3,
    end: end({}),
    stop: null,
    thrown: null,
    toolsUsed: [],
    denials: [],
    changes: null,
    ...fields,
  });
const interrupted = end({ reason: 'interrupted' });

const cuts: [StopCause, string, string][] = [
  [{ reason: 'timeout', seconds: 10 }, 'timeout', 'interrupted'],
  [{ reason: 'max_turns', limit: 2 }, 'max_turns', 'completed'],
  [{ reason: 'max_budget' }, 'max_budget', 'completed'],
  [{ reason: 'client_left' }, 'interrupted', 'cancelled'],
  [{ reason: 'shutdown' }, 'interrupted', 'interrupted'],
];

for (const [stop, stopReason, state] of cuts) {
  test(`a run stopped by ${stop.reason} is no success, says so, and has no error status`, () => {
    const { result, state: actual, error } = outcome({ end: interrupted, stop });
    assert.equal(result.success, false);
    assert.equal(result.stop_reason, stopReason);
    assert.ok(result.error);
    assert.equal(actual, state);
    assert.equal(error, null);
  });
}

test('a run that came to its own end while it was being stopped has ended well', () => {
  const { result, state } = outcome({ stop: { reason: 'timeout', seconds: 10 } });
  assert.equal(result.stop_reason, 'end_turn');
  assert.equal(state, 'completed');
});

test('what failed on our side counts even when Claude came to its end', () => {
  const broken = new SallyportError('storage_full');
  const { result, state, error } = outcome({ stop: { reason: 'failed', error: broken } });
  assert.equal(result.success, false);
  assert.equal(state, 'failed');
  assert.equal(error, broken);
});

test('a structured answer is given only by a run that ended well', () => {
  assert.deepEqual(outcome({ end: end({ structuredOutput: { a: 1 } }) }).result.structured_output, { a: 1 });
  const cut = end({ reason: 'refusal', structuredOutput: { a: 1 } });
  assert.equal(outcome({ end: cut }).result.structured_output, null);
});

test('a failure with a code is an error, one without is a result with a sentence', () => {
  const failure = { code: 'upstream_rate_limited' as const, detail: 'd', retryAfter: 7 };
  const coded = outcome({ end: end({ reason: 'error', failure }) });
  assert.equal(coded.error?.code, 'upstream_rate_limited');
  assert.equal(coded.error?.retryAfter, 7);
  const plain = outcome({
    end: end({ reason: 'error', failure: { code: null, detail: 'No structured answer came.' } }),
  });
  assert.equal(plain.error, null);
  assert.equal(plain.result.error, 'No structured answer came.');
  assert.equal(plain.result.stop_reason, 'error');
});

test('whatever a runner rejects with becomes an error of the catalogue', () => {
  assert.equal(outcome({ end: null, thrown: new Error('secret path') }).error?.code, 'internal');
  assert.equal(
    outcome({ end: null, thrown: new SallyportError('overloaded', { retryAfter: 3 }) }).error?.retryAfter,
    3,
  );
});

test('tokens and money of all calls are summed, a call without a price counting its tokens', () => {
  const call = (costUsd: number | null) => ({
    id: 'i',
    ref: { tenant: 't', conversation: 'c', turn: 'u', epoch: 1 },
    key: 'k',
    at: 0,
    model: 'm',
    usage: { input_tokens: 1, output_tokens: 2, cache_read_tokens: 3, cache_write_tokens: 4 },
    costUsd,
    status: 200,
    durationMs: 1,
  });
  const { result } = outcome({ end: end({ calls: [call(0.5), call(null), call(0.25)] }) });
  assert.equal(result.tokens_used, 30);
  assert.equal(result.cost_usd, 0.75);
  assert.equal(result.execution_time, 1.235);
  assert.equal(result.model, 'm');
});
