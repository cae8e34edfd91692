import type { ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { randomFraction } from '../engine/ids.ts';
import { attemptCall, type AttemptContext, type AttemptEnd, type Call } from './attempt.ts';
import { finalFailureBody } from './failures.ts';
import { retryDelay, type RetryPolicy } from './retry.ts';

/** Answers with a final failure, unless an answer has begun: then it is broken off. */
export function answerFinally(response: ServerResponse): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const headers = { 'content-type': 'application/json', 'x-should-retry': 'false' };
  response.writeHead(400, headers).end(finalFailureBody);
}

/**
 * Passes one call: sends it, repeats it while nothing of an answer was passed on and the policy and `mayRepeat` allow it,
 * and gives the process either the upstream's answer or a final failure. Where `mayRepeat` says no, it has answered.
 */
export async function exchange(
  call: Call,
  context: AttemptContext,
  policy: RetryPolicy,
  mayRepeat: () => Promise<boolean>,
): Promise<void> {
  let timeouts = 0;
  for (let repeat = 1; ; repeat++) {
    const end = await attemptCall(call, context);
    if (end.kind !== 'failed') return;
    if (end.repeat === 'once') timeouts++;
    const delay = timeouts > 1 ? null : delayOf(end, policy, repeat);
    if (delay === null) {
      context.ended(call, end.failure);
      answerFinally(call.response);
      return;
    }
    const { tenant, conversation, turn } = call.ledger.grant.ref;
    const { code } = end.failure;
    context.log.warn(
      { tenant, conversation, turn, code, repeat, delayMs: Math.round(delay) },
      'model call is repeated',
    );
    call.ledger.grant.onRetry(repeat, code);
    try {
      await sleep(delay, undefined, { signal: call.signal });
    } catch {
      return; // The process has left.
    }
    // What the try before cost, or others have spent meanwhile, may have used up a budget.
    if (!(await mayRepeat())) return;
  }
}

function delayOf(end: AttemptEnd & { kind: 'failed' }, policy: RetryPolicy, repeat: number): number | null {
  return end.repeat === 'no' ? null : retryDelay(policy, repeat, end.afterMs, randomFraction());
}
