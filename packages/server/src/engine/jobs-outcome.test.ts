import { deepStrictEqual, ok, strictEqual, throws } from 'node:assert/strict';
import { test } from 'node:test';
import { errorCodes } from '@sallyport/protocol';
import { runResult } from '../http/samples-support.ts';
import { SallyportError } from './errors.ts';
import { jobCursor } from './jobs-events.ts';
import { newId } from './ids.ts';
import { afterAttempt, pauseMs } from './jobs-outcome.ts';
import { abandonedResult, outcomeOf, wasCutByStop, type StopCause } from './outcome.ts';

const first = { attempt: 1, attempts: 3, cancelling: false };
const failed = runResult({ success: false, stop_reason: 'error', error: 'It failed.' });

test('a run that ended well completes its job, though it was to be cancelled meanwhile', () => {
  for (const cancelling of [false, true]) {
    const after = afterAttempt({ ...first, cancelling }, { result: runResult(), error: null }, 0);
    deepStrictEqual(after, { end: { status: 'completed', error: null, code: null } });
  }
});

test('every other end of a job that is to be cancelled is that', () => {
  const error = new SallyportError('upstream_error');
  for (const attempt of [
    { result: null, error: null },
    { result: null, error },
    { result: failed, error },
    { result: failed, error: null },
  ]) {
    const after = afterAttempt({ ...first, cancelling: true }, attempt, 0);
    deepStrictEqual(after, { end: { status: 'cancelled', error: null, code: null } });
  }
});

test('what may pass is tried again as often as was asked for, and what may not never', () => {
  for (const code of errorCodes) {
    const error = new SallyportError(code);
    for (const attempt of [1, 2, 3]) {
      const after = afterAttempt({ ...first, attempt }, { result: failed, error }, 0);
      strictEqual('retry' in after, error.retryable && attempt < 3, `${code} of attempt ${attempt}`);
      if ('retry' in after) deepStrictEqual(after.retry, { counts: true, error: error.detail, code });
      else deepStrictEqual(after.end, { status: 'failed', error: error.detail, code });
    }
  }
});

test('an attempt of which nothing has run does not count, however often that is', () => {
  const error = new SallyportError('overloaded', { retryAfter: 7 });
  const after = afterAttempt({ ...first, attempt: 3 }, { result: null, error }, 1);
  deepStrictEqual(after, { retry: { counts: false, error: error.detail, code: 'overloaded' }, delayMs: 7000 });
  const final = afterAttempt(first, { result: null, error: new SallyportError('invalid_key') }, 0);
  strictEqual('end' in final && final.end.code, 'invalid_key');
});

test('a run that was cut fails its job, with what it says of itself', () => {
  const cut = runResult({ success: false, stop_reason: 'max_turns', error: 'Cut.' });
  const after = afterAttempt(first, { result: cut, error: null }, 0);
  deepStrictEqual(after, { end: { status: 'failed', error: 'Cut.', code: null } });
});

test('pauses double up to a minute, and no two of the same time are alike', () => {
  deepStrictEqual(
    [1, 2, 3, 4, 5].map((attempt) => pauseMs(attempt, 0)),
    [1000, 2000, 4000, 8000, 16_000],
  );
  strictEqual(pauseMs(100, 0), 60_000);
  for (const fraction of [0, 0.3, 0.999]) {
    const pause = pauseMs(3, fraction);
    ok(pause > 2000 && pause <= 4000, String(pause));
  }
});

test('only a stop of the service is what a run begins anew after', () => {
  const causes: StopCause[] = [
    { reason: 'timeout', seconds: 1 },
    { reason: 'max_turns', limit: 1 },
    { reason: 'failed', error: new SallyportError('internal') },
    ...(['max_budget', 'client_left', 'interrupt', 'shutdown', 'stopped', 'key_gone'] as const).map((reason) => ({
      reason,
    })),
  ];
  const parts = {
    requestId: 'r',
    conversation: 'c',
    profileModel: 'm',
    seconds: 1,
    maxTurns: 1,
    end: null,
    thrown: null,
  };
  const none = { toolsUsed: [], denials: [], changes: null };
  const cut = causes.filter((stop) => wasCutByStop(outcomeOf({ ...parts, ...none, stop }).result));
  deepStrictEqual(cut, [{ reason: 'shutdown' }]);
  strictEqual(wasCutByStop(abandonedResult('c', 'm')), false);
});

test('a cursor of a job is a conversation and a cursor of it, and nothing else is one', () => {
  const conversation = newId('conv');
  deepStrictEqual(jobCursor(`${conversation}.7.13`), { conversation, cursor: { seq: 7, chars: 13 } });
  deepStrictEqual(jobCursor(undefined), { conversation: null, cursor: { seq: 0, chars: 0 } });
  for (const rest of ['', '.', '.1', '.1.2.3', '.02.3', '.-1.2', '.1e3.1', '.1.x', 'f.1.2', '. 1.2']) {
    throws(() => jobCursor(`${conversation}${rest}`), { code: 'bad_cursor' }, rest);
  }
  for (const text of [
    '',
    '1.2',
    '1.2.3',
    ` ${conversation}.1.2`,
    `${newId('job')}.1.2`,
    `${conversation.toUpperCase()}.1.2`,
  ]) {
    throws(() => jobCursor(text), { code: 'bad_cursor' }, text);
  }
});
