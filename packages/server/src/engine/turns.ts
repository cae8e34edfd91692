import { setTimeout as sleep } from 'node:timers/promises';
import type { ErrorCode, LogEvent, QueryRequest } from '@sallyport/protocol';
import { withReservation, type TurnBudget } from './budgets.ts';
import { logOf } from './conversations.ts';
import type { EngineParts, TurnOutcome } from './engine.ts';
import { SallyportError } from './errors.ts';
import { feed, type Feed } from './feed.ts';
import { followFor } from './follow.ts';
import { newId, newUuid } from './ids.ts';
import { withPlace } from './line.ts';
import type { LiveLogs } from './live.ts';
import { messagesOf } from './messages.ts';
import { abandonedResult, type Outcome } from './outcome.ts';
import {
  ClaimTakenError,
  ConversationExistsError,
  StaleEpochError,
  type AcceptNextTurn,
  type ConversationRecord,
  type IdempotencyClaim,
  type Profile,
  type StoredConversation,
  type TurnEnd,
  type TurnLimits,
  type TurnRef,
  type UnfinishedTurn,
} from './ports.ts';
import type { Principal } from './principal.ts';
import type { TurnLog } from './turn-log.ts';
import type { Turn } from './turn.ts';

const commitPauses = [50, 200, 1000];

/** A turn whose acceptance is committed, with what was reserved for it. */
export interface AcceptedTurn extends TurnBudget {
  readonly ref: TurnRef;
  readonly conversation: ConversationRecord;
  readonly messageUuid: string;
  /** Events of the acceptance, which followers are told. */
  readonly events: readonly LogEvent[];
  /** The last of them: what follows is the run's. */
  readonly lastSeq: number;
  /** True for the first turn of its conversation. */
  readonly first: boolean;
}

/** What a turn keeps of its request, so that it can be run again. */
export interface KeptRequest {
  readonly requestId: string;
  readonly files: QueryRequest['files'];
  /** The request as it was parsed. */
  readonly body: unknown;
}

const limitsOf = (request: QueryRequest): TurnLimits => ({
  maxTurns: request.max_turns,
  timeoutSeconds: request.timeout,
  budgetUsd: request.max_budget_usd ?? null,
  instructions: request.instructions,
});

/** How a first turn is accepted. */
export interface FirstTurn {
  readonly profile: Profile;
  readonly kind: ConversationRecord['kind'];
  readonly id: string;
  readonly requestId: string;
  readonly claim: IdempotencyClaim | null;
}

/**
 * Commits a new conversation with its first turn and the user's message. Nothing has run when it rejects, with
 * `conversation_exists` when the id is taken, `budget_exhausted` or, where a budget needs a price, `model_not_allowed`.
 * Throws `ClaimTakenError` when another request was quicker.
 */
export async function acceptFirst(
  parts: EngineParts,
  principal: Principal,
  request: QueryRequest,
  chosen: FirstTurn,
): Promise<AcceptedTurn> {
  const messageUuid = newUuid();
  const at = parts.clock.now();
  const conversation: ConversationRecord = {
    tenant: principal.tenant,
    id: chosen.id,
    key: principal.key,
    kind: chosen.kind,
    profile: chosen.profile,
    limits: limitsOf(request),
    sdkSession: newUuid(),
    metadata: request.metadata ?? {},
    createdAt: at,
  };
  const events = [{ type: 'user_message' as const, text: request.prompt, message_uuid: messageUuid }];
  const kept: KeptRequest = { requestId: chosen.requestId, files: request.files, body: request };
  const { node } = parts.lease;
  const turn = { conversation, turn: newId('turn'), node, request: kept, at, events, claim: chosen.claim };
  const name = { tenant: principal.tenant, conversation: chosen.id, turn: turn.turn };
  try {
    const accept = async (budget: TurnBudget) => {
      const accepted = await parts.turns.accept(turn);
      return { ref: accepted.ref, conversation, messageUuid, ...told(accepted.events), first: true, ...budget };
    };
    return await withPlace(parts.runner, conversation, () =>
      withReservation(parts, { turn: name, key: principal.key, node }, conversation, accept),
    );
  } catch (error) {
    if (error instanceof ClaimTakenError) throw error;
    if (error instanceof ConversationExistsError) throw new SallyportError('conversation_exists', { cause: error });
    throw SallyportError.from(error);
  }
}

/**
 * Commits the next turn of a conversation, for which its owner pays; null when it is not idle any more. Nothing has run
 * when it rejects, as `acceptFirst` does.
 */
export async function acceptNext(
  parts: EngineParts,
  conversation: StoredConversation,
  message: string,
  { requestId, claim }: Pick<FirstTurn, 'requestId' | 'claim'>,
): Promise<AcceptedTurn | null> {
  const { tenant, id, key } = conversation;
  const messageUuid = newUuid();
  const turn = newId('turn');
  const name = { tenant, conversation: id, turn };
  const { node } = parts.lease;
  const next: AcceptNextTurn = {
    ...name,
    node,
    request: { requestId, files: undefined, body: { message } } satisfies KeptRequest,
    at: parts.clock.now(),
    events: [{ type: 'user_message', text: message, message_uuid: messageUuid }],
    claim,
  };
  try {
    const accept = async (budget: TurnBudget) => {
      const accepted = await parts.turns.acceptNext(next);
      return (
        accepted && { ref: accepted.ref, conversation, messageUuid, ...told(accepted.events), first: false, ...budget }
      );
    };
    return await withPlace(parts.runner, conversation, () =>
      withReservation(parts, { turn: name, key, node }, conversation, accept),
    );
  } catch (thrown) {
    if (thrown instanceof ClaimTakenError) throw thrown;
    const error = SallyportError.from(thrown);
    // What the running turn has reserved may be all that is left.
    if (error.code === 'budget_exhausted' && (await isBusy(parts, conversation))) return null;
    throw error;
  }
}

async function isBusy(parts: EngineParts, { tenant, id }: StoredConversation): Promise<boolean> {
  const status = (await parts.conversations.get(tenant, id))?.status;
  return status === 'running' || status === 'waiting';
}

const told = (events: readonly LogEvent[]) => ({ events, lastSeq: events.at(-1)?.seq ?? 0 });

/** Codes of errors with which a run is refused before anything of it has happened. */
const refusals: ReadonlySet<ErrorCode> = new Set([
  'overloaded',
  'not_ready',
  'workspace_not_accessible',
  'isolation_unavailable',
  'storage_full',
]);

/** The end of a turn. */
export interface TurnEnding {
  readonly outcome: TurnOutcome;
  /** Commits what is left of the end; null when nothing is, or another writer has taken over. */
  readonly commit: (() => Promise<void>) | null;
}

/**
 * Runs an accepted turn, commits its end and then releases what it had reserved. Never rejects: an end that cannot be
 * committed is an error of the outcome. Null: the turn goes on elsewhere, and has no end yet.
 */
export async function endOf(
  parts: EngineParts,
  accepted: AcceptedTurn,
  log: TurnLog,
  turn: Turn,
): Promise<TurnEnding | null> {
  const { ref, lastSeq, reserved } = accepted;
  const outcome = await turn.run();
  if (outcome === null) return null;
  const { result, error } = outcome;
  const names = { turn: ref.turn, conversation: ref.conversation };
  if (error) parts.logger.warn({ ...names, code: error.code, err: error.cause }, 'turn failed');
  let stored = false;
  let released = !reserved;
  const commit = async () => {
    if (!stored) await commitEnd(parts, accepted, log, { ...outcome, files: turn.files });
    stored = true;
    if (!released) await parts.budgets.release(ref);
    released = true;
  };
  try {
    await patiently(commit).catch((thrown: unknown) => {
      if (!stored) throw thrown;
      parts.logger.error({ ...names, err: thrown }, 'what a turn had reserved is not released');
    });
    const messages = messagesOf(await ownEvents(parts, ref));
    return { outcome: { result, messages, error }, commit: released ? null : commit };
  } catch (thrown) {
    parts.logger.error({ ...names, lastSeq, err: thrown }, 'the end of a turn is not stored');
    if (thrown instanceof StaleEpochError) return null;
    const failure = SallyportError.from(thrown);
    log.live.fail(failure);
    const over = stored && released;
    return { outcome: { result, messages: [], error: failure }, commit: over ? null : commit };
  }
}

const ownEvents = async (parts: EngineParts, { tenant, conversation, turn }: TurnRef): Promise<LogEvent[]> =>
  (await logOf(parts, tenant, conversation)).filter((event) => event.turn === turn);

/** Tries again while the store cannot be written, unless another writer has taken over. */
async function patiently(commit: () => Promise<void>): Promise<void> {
  for (const pause of commitPauses) {
    try {
      return await commit();
    } catch (thrown) {
      if (thrown instanceof StaleEpochError) throw thrown;
      await sleep(pause);
    }
  }
  await commit();
}

async function commitEnd(
  parts: EngineParts,
  { ref, first, conversation: { sdkSession } }: AcceptedTurn,
  log: TurnLog,
  { state, result, error, files }: Outcome & Pick<TurnEnd, 'files'>,
): Promise<void> {
  const refused = error !== null && refusals.has(error.code);
  const nothingRan = refused && result.tokens_used === 0 && (await ownEvents(parts, ref)).length === 1;
  if (nothingRan && first) {
    // The id is free again, and the same request may be sent again.
    await parts.turns.withdraw(ref);
    await parts.runner.forget(ref.tenant, sdkSession);
    log.live.fail(error);
    return;
  }
  await log.finish({ state, at: parts.clock.now(), result, code: error?.code ?? null, nothingRan, files });
}

/** The wire events of an accepted turn from its first to its result. */
export function eventsOf(parts: EngineParts, logs: LiveLogs, { ref, lastSeq }: AcceptedTurn): Feed {
  const { tenant, conversation, turn } = ref;
  const isLast = (event: LogEvent) => event.turn === turn && event.body.type === 'result';
  return feed((reader) => {
    const live = logs.acquire(tenant, conversation);
    const left = () => logs.release(tenant, conversation);
    const followed = { store: parts.turns, tenant, conversation, live, wait: true, first: true, isLast, left };
    return followFor(reader, followed, { seq: lastSeq, chars: 0 });
  });
}

/** Ends a turn that was taken over and cannot go on, and releases what it had reserved. */
export async function endAbandoned(parts: EngineParts, { turn, conversation }: UnfinishedTurn): Promise<void> {
  const { ref } = turn;
  const result = abandonedResult(ref.conversation, conversation.profile.model);
  const at = parts.clock.now();
  await parts.turns.finish(ref, { state: 'interrupted', at, result, code: null, nothingRan: false, files: [] });
  await parts.budgets.release(ref);
  parts.logger.warn({ turn: ref.turn, conversation: ref.conversation }, 'ended a turn that nobody ran any more');
}
