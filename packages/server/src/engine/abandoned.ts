import { keptBudget } from './budgets.ts';
import { logOf, stillAllowed } from './conversations.ts';
import type { EngineParts } from './engine.ts';
import { SallyportError } from './errors.ts';
import type { UnfinishedTurn } from './ports.ts';
import type { Launch, RunningTurns } from './running.ts';
import { endAbandoned, type AcceptedTurn, type KeptRequest } from './turns.ts';

/**
 * Goes on with turns that this node has taken over: those of conversations and jobs go on, those of one-shots end, as
 * whoever asked is gone, unless they were promised under an `Idempotency-Key`. What was reserved of budgets stays for
 * those that go on only, before the first of them does. What fails is left: the sweeper finds it.
 */
export async function takeUp(
  parts: EngineParts,
  running: RunningTurns,
  taken: readonly UnfinishedTurn[],
): Promise<void> {
  const goingOn: Resumption[] = [];
  for (const unfinished of taken) {
    const { conversation, claimed, turn } = unfinished;
    const goesOn = conversation.kind !== 'query' || claimed;
    try {
      const resumption = goesOn ? await resumptionOf(parts, unfinished) : null;
      if (resumption) goingOn.push(resumption);
      else await endAbandoned(parts, unfinished);
    } catch (error) {
      parts.logger.error({ turn: turn.ref.turn, err: error }, 'a turn could not be taken up; it is tried again');
    }
  }
  await parts.budgets.releaseEnded().catch((error: unknown) => {
    parts.logger.error({ err: error }, 'what ended turns had reserved is not released; it is tried again');
  });
  for (const { accepted, launch } of goingOn) {
    const { turn, conversation } = accepted.ref;
    running.launch(accepted, launch);
    parts.logger.info({ turn, conversation }, 'took up a turn that nobody ran any more');
  }
}

/** What a turn goes on with. */
interface Resumption {
  readonly accepted: AcceptedTurn;
  readonly launch: Launch;
}

/** Null when it cannot or must not go on. */
async function resumptionOf(parts: EngineParts, unfinished: UnfinishedTurn): Promise<Resumption | null> {
  const { turn, conversation } = unfinished;
  const { ref } = turn;
  if (!(await mayGoOn(parts, unfinished))) return null;
  const log = await logOf(parts, ref.tenant, ref.conversation);
  const message = log.find((event) => event.turn === ref.turn && event.body.type === 'user_message');
  if (message?.body.type !== 'user_message') return null;
  const { requestId, files } = turn.request as KeptRequest;
  const calls = await parts.usage.ofTurn(ref);
  const spentUsd = calls.reduce((total, { costUsd }) => total + (costUsd ?? 0), 0);
  const reserver = { turn: ref, key: conversation.key };
  const budget = await keptBudget(parts, reserver, conversation.limits.budgetUsd, spentUsd);
  const accepted = {
    ...budget,
    ref,
    conversation,
    messageUuid: message.body.message_uuid,
    events: [],
    lastSeq: message.seq,
    first: message.seq === 1,
  };
  const launch = {
    requestId,
    prompt: message.body.text,
    files: files ?? [],
    resume: message.seq > 1,
    earlier: { counters: turn, calls },
  };
  return { accepted, launch };
}

/** False when the owner may not do any more what was allowed, when a stop names the turn, or when neither can be found out. */
async function mayGoOn(parts: EngineParts, { turn, conversation }: UnfinishedTurn): Promise<boolean> {
  const { tenant, id, key } = conversation;
  try {
    const owner = await parts.keyRing.named(tenant, key);
    if (owner === null) throw new Error('the key that owns the turn is not valid any more');
    await parts.stops.check({ tenant, key, conversation: id });
    await stillAllowed(parts, owner, conversation.profile);
    return true;
  } catch (error) {
    const { code } = SallyportError.from(error);
    parts.logger.warn({ turn: turn.ref.turn, code, err: error }, 'a turn may not go on any more');
    return false;
  }
}
