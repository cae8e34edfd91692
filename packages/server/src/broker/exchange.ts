import type { ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ErrorCode } from '@sallyport/protocol';
import { randomFraction } from '../engine/ids.ts';
import type { UpstreamFailure } from '../engine/ports.ts';
import { attemptCall, type AttemptContext, type AttemptEnd, type Call } from './attempt.ts';
import { finalFailureBody, mayPassElsewhere } from './failures.ts';
import type { Caller, Pool, TakenPlace } from './pool.ts';
import { retryDelay, type RetryBudget, type RetryPolicy } from './retry.ts';
import { Tries } from './tries.ts';

export interface ExchangeContext extends AttemptContext {
  readonly pool: Pool;
  readonly retry: RetryPolicy;
  readonly retryBudget: RetryBudget;
}

type Failed = AttemptEnd & { kind: 'failed' };

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
 * Passes one call: sends it, tries it again, elsewhere where it can, while nothing of an answer was passed on and the
 * policy and `mayTry` allow it, and gives the process either an upstream's answer or a final failure. `mayTry` is asked
 * before each try but one that begins at once; where it says no, it has answered.
 */
export async function exchange(call: Call, context: ExchangeContext, mayTry: () => Promise<boolean>): Promise<void> {
  const { ref, model } = call.ledger.grant;
  const caller: Caller = { tenant: ref.tenant, conversation: ref.conversation, model, signal: call.signal };
  const tries = new Tries();
  context.retryBudget.began();
  for (;;) {
    const place = await context.pool.enter(caller, tries, context.timeouts.firstByteMs);
    if (place === null) return; // The process has left.
    if ('code' in place) return finish(call, context, place);
    const atOnce = tries.count === 0 && !place.waited;
    const end = await tryAt(place, call, context, atOnce ? async () => true : mayTry);
    if (end?.kind !== 'failed') return;
    tries.add(place.upstream, place.credential, end.failure);
    const delay = delayOf(end, place, caller, tries, context);
    if (delay === null) return finish(call, context, tries.failure ?? end.failure);
    tell(call, context, { repeat: tries.count, delay, label: place.label, code: end.failure.code });
    try {
      await sleep(delay, undefined, { signal: call.signal });
    } catch {
      return; // The process has left.
    }
  }
}

/** Uses a place for one try and gives it back. Null: `mayTry` did not allow it. Rejects as `mayTry` and `attemptCall` do. */
async function tryAt(
  place: TakenPlace,
  call: Call,
  context: ExchangeContext,
  mayTry: () => Promise<boolean>,
): Promise<AttemptEnd | null> {
  try {
    // What the try before cost, or others have spent meanwhile, may have used up a budget.
    if (!(await mayTry())) return null;
    const end = await attemptCall(call, place, context);
    place.leave(end);
    return end;
  } finally {
    place.leave(null);
  }
}

/** Milliseconds until a failed call is tried again; null when it is not. */
function delayOf(end: Failed, from: TakenPlace, caller: Caller, tries: Tries, context: ExchangeContext): number | null {
  const { pool, retry, retryBudget } = context;
  const next = pool.choose(caller, tries);
  // Waiting a second time for an answer is worth it, a third time is not.
  if (next === null || tries.timeouts > 1 || !mayPassElsewhere(end.failure.code)) return null;
  if (next.fresh) return (tries.moves += 1) > retry.moves ? null : 0;
  const { credential } = next;
  if (end.repeat === 'no' && tries.hasTried(credential)) return null;
  // What others were told of the only key binds no call but theirs: it may be over.
  const asked = credential === from.credential ? end.afterMs : credential.waitMs();
  const delay = retryDelay(retry, (tries.repeats += 1), asked, randomFraction());
  if (delay === null || retryBudget.take()) return delay;
  context.log.warn({ upstream: from.label }, 'no more repeats: too many calls fail');
  return null;
}

interface NextTry {
  readonly repeat: number;
  readonly delay: number;
  readonly label: string;
  readonly code: ErrorCode;
}

function tell(call: Call, context: ExchangeContext, { repeat, delay, label, code }: NextTry): void {
  const { ref, onRetry } = call.ledger.grant;
  const { tenant, conversation, turn } = ref;
  const delayMs = Math.round(delay);
  context.log.warn({ tenant, conversation, turn, upstream: label, code, repeat, delayMs }, 'model call is repeated');
  onRetry(repeat, code);
}

function finish(call: Call, context: ExchangeContext, failure: UpstreamFailure): void {
  context.ended(call, failure);
  answerFinally(call.response);
}
