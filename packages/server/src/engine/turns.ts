import { setTimeout as sleep } from 'node:timers/promises';
import type { LogEvent, QueryRequest, StreamItem } from '@sallyport/protocol';
import { logOf } from './conversations.ts';
import type { EngineParts, TurnOutcome } from './engine.ts';
import { SallyportError } from './errors.ts';
import { follow } from './follow.ts';
import { newId, newUuid } from './ids.ts';
import type { LiveLogs } from './live.ts';
import { messagesOf } from './messages.ts';
import { abandonedResult, type Outcome } from './outcome.ts';
import {
  ConversationExistsError,
  StaleEpochError,
  type ConversationRecord,
  type Profile,
  type StoredConversation,
  type TurnLimits,
  type TurnRef,
} from './ports.ts';
import type { Principal } from './principal.ts';
import type { TurnLog } from './turn-log.ts';
import type { Turn } from './turn.ts';

const commitPauses = [50, 200, 1000];

/** A turn whose acceptance is committed. */
export interface AcceptedTurn {
  readonly ref: TurnRef;
  readonly conversation: ConversationRecord;
  readonly messageUuid: string;
  /** Last event of the acceptance: what follows is the run's. */
  readonly lastSeq: number;
}

const limitsOf = (request: QueryRequest): TurnLimits => ({
  maxTurns: request.max_turns,
  timeoutSeconds: request.timeout,
  budgetUsd: request.max_budget_usd ?? null,
  instructions: request.instructions,
});

/**
 * Commits a new conversation with its first turn and the user's message. Nothing has run when it rejects, with
 * `conversation_exists` when the id is taken.
 */
export async function acceptFirst(
  parts: EngineParts,
  principal: Principal,
  request: QueryRequest,
  chosen: { readonly profile: Profile; readonly kind: ConversationRecord['kind']; readonly id: string | undefined },
): Promise<AcceptedTurn> {
  const messageUuid = newUuid();
  const at = parts.clock.now();
  const conversation: ConversationRecord = {
    tenant: principal.tenant,
    id: chosen.id ?? newId('conv'),
    key: principal.key,
    kind: chosen.kind,
    profile: chosen.profile,
    limits: limitsOf(request),
    sdkSession: newUuid(),
    metadata: request.metadata ?? {},
    createdAt: at,
  };
  const events = [{ type: 'user_message' as const, text: request.prompt, message_uuid: messageUuid }];
  try {
    const accepted = await parts.turns.accept({ conversation, turn: newId('turn'), request, at, events });
    return { ref: accepted.ref, conversation, messageUuid, lastSeq: lastSeqOf(accepted.events) };
  } catch (error) {
    if (error instanceof ConversationExistsError) throw new SallyportError('conversation_exists', { cause: error });
    throw SallyportError.from(error);
  }
}

/** Commits the next turn of a conversation; null when it is not idle any more. Nothing has run when it rejects. */
export async function acceptNext(
  parts: EngineParts,
  conversation: StoredConversation,
  message: string,
): Promise<AcceptedTurn | null> {
  const messageUuid = newUuid();
  const accepted = await parts.turns
    .acceptNext({
      tenant: conversation.tenant,
      conversation: conversation.id,
      turn: newId('turn'),
      request: { message },
      at: parts.clock.now(),
      events: [{ type: 'user_message', text: message, message_uuid: messageUuid }],
    })
    .catch((error: unknown) => {
      throw SallyportError.from(error);
    });
  return accepted && { ref: accepted.ref, conversation, messageUuid, lastSeq: lastSeqOf(accepted.events) };
}

const lastSeqOf = (events: readonly LogEvent[]): number => events.at(-1)?.seq ?? 0;

/** Runs an accepted turn and commits its end. Never rejects: an end that cannot be committed is an error of the outcome. */
export async function endOf(
  parts: EngineParts,
  { ref, lastSeq }: AcceptedTurn,
  log: TurnLog,
  turn: Turn,
): Promise<TurnOutcome> {
  const { tenant, conversation } = ref;
  const outcome = await turn.run();
  if (outcome.error) {
    const { code, cause } = outcome.error;
    parts.logger.warn({ turn: ref.turn, conversation, code, err: cause }, 'turn failed');
  }
  try {
    await commitEnd(parts, log, outcome);
    const own = (await logOf(parts, tenant, conversation)).filter((event) => event.turn === ref.turn);
    return { result: outcome.result, messages: messagesOf(own), error: outcome.error };
  } catch (error) {
    parts.logger.error({ turn: ref.turn, conversation, lastSeq, err: error }, 'the end of a turn is not stored');
    const failure = SallyportError.from(error);
    log.live.fail(failure);
    return { result: outcome.result, messages: [], error: failure };
  }
}

/** Commits the end of a turn, trying again while the store cannot be written, unless another writer has taken over. */
async function commitEnd(parts: EngineParts, log: TurnLog, outcome: Outcome): Promise<void> {
  const { state, result, error } = outcome;
  const end = { state, at: parts.clock.now(), result, code: error?.code ?? null };
  for (const pause of commitPauses) {
    try {
      await log.finish(end);
      return;
    } catch (thrown) {
      if (thrown instanceof StaleEpochError) throw thrown;
      await sleep(pause);
    }
  }
  await log.finish(end);
}

/** The wire events of an accepted turn from its first to its result. */
export async function* eventsOf(
  parts: EngineParts,
  logs: LiveLogs,
  { ref, lastSeq }: AcceptedTurn,
): AsyncGenerator<StreamItem> {
  const { tenant, conversation, turn } = ref;
  const live = logs.acquire(tenant, conversation);
  const isLast = (event: LogEvent) => event.turn === turn && event.body.type === 'result';
  try {
    const followed = { store: parts.turns, tenant, conversation, live, wait: true, isLast };
    yield* follow(followed, { seq: lastSeq, chars: 0 });
  } finally {
    logs.release(tenant, conversation);
  }
}

/** Ends the turns that an earlier process of the service left open: it is gone, and so is what it ran. */
export async function endAbandoned(parts: EngineParts): Promise<void> {
  for (const { ref, model } of await parts.turns.takeUnfinished()) {
    const result = abandonedResult(ref.conversation, model);
    await parts.turns.finish(ref, { state: 'interrupted', at: parts.clock.now(), result, code: null });
    parts.logger.warn(
      { turn: ref.turn, conversation: ref.conversation },
      'ended a turn that an earlier process left open',
    );
  }
}
