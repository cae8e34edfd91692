import type { LogEvent, RunResult } from '@sallyport/protocol';
import { logOf } from './conversations.ts';
import type { EngineParts, RunningTurn, TurnOutcome } from './engine.ts';
import { SallyportError } from './errors.ts';
import type { Feed } from './feed.ts';
import { follow } from './follow.ts';
import { LiveLog } from './live.ts';
import { messagesOf } from './messages.ts';
import type { IdempotencyClaim, StoredTurn } from './ports.ts';
import type { Principal } from './principal.ts';
import { canonicalHash } from './tool-inputs.ts';

/** How long a claim is kept, in milliseconds: 24 hours. */
const keptMs = 86_400_000;

/** The claim that a request makes; null without an `Idempotency-Key`. `request` is all that makes it this request. */
export function claimOf(
  parts: Pick<EngineParts, 'clock'>,
  principal: Principal,
  idempotencyKey: string | null,
  request: readonly unknown[],
): IdempotencyClaim | null {
  if (idempotencyKey === null) return null;
  const expiresAt = parts.clock.now() + keptMs;
  return { key: principal.key, idempotencyKey, hash: canonicalHash(request), expiresAt };
}

/**
 * The turn that an earlier request started under the same claim; null when there is none. Rejects with
 * `idempotency_key_reused` when that was another request, with `idempotency_in_progress` while it runs.
 */
export async function earlierTurn(
  parts: EngineParts,
  tenant: string,
  claim: IdempotencyClaim | null,
): Promise<RunningTurn | null> {
  if (claim === null) return null;
  const found = await parts.turns.claimed(tenant, claim.key, claim.idempotencyKey, parts.clock.now());
  if (found === null) return null;
  if (found.hash !== claim.hash) throw new SallyportError('idempotency_key_reused');
  const { turn } = found;
  if (turn.result === null) throw new SallyportError('idempotency_in_progress', { retryAfter: 1 });
  return await replayOf(parts, turn, turn.result);
}

async function replayOf(parts: EngineParts, turn: StoredTurn, result: TurnOutcome['result']): Promise<RunningTurn> {
  const { tenant, conversation, turn: id } = turn.ref;
  const log = await logOf(parts, tenant, conversation);
  const upToEnd = log.slice(0, log.findLastIndex((event) => event.turn === id) + 1);
  const own = upToEnd.filter((event) => event.turn === id);
  return {
    conversation,
    replayed: true,
    waiting: new Promise(() => {}),
    ended: Promise.resolve({ result, messages: messagesOf(own), error: errorOf(turn, result) }),
    events: () => eventsOf(parts, turn, own),
    totalMessages: async () => messagesOf(upToEnd).length,
  };
}

/** The error that a stored turn ended with; null when that has no code. */
export function errorOf({ code }: Pick<StoredTurn, 'code'>, { error: detail }: RunResult): SallyportError | null {
  return code === null ? null : new SallyportError(code, { ...(detail !== null && { detail }), cause: 'replayed' });
}

function eventsOf(parts: EngineParts, { ref }: StoredTurn, [first]: readonly LogEvent[]): Feed {
  const isLast = (event: LogEvent) => event.turn === ref.turn && event.body.type === 'result';
  const { tenant, conversation } = ref;
  const followed = { store: parts.turns, tenant, conversation, live: new LiveLog(), wait: false, first: false, isLast };
  return follow(followed, { seq: first?.seq ?? Number.MAX_SAFE_INTEGER, chars: 0 });
}
