import { logOf, stillAllowed } from './conversations.ts';
import type { EngineParts } from './engine.ts';
import { SallyportError } from './errors.ts';
import type { UnfinishedTurn } from './ports.ts';
import type { RunningTurns } from './running.ts';
import { endAbandoned, type KeptRequest } from './turns.ts';

/**
 * Takes up the turns that an earlier process of the service left without an end: those of conversations go on, those of
 * one-shots end, as whoever asked is gone, unless they were promised under an `Idempotency-Key`.
 */
export async function takeUp(parts: EngineParts, running: RunningTurns): Promise<void> {
  for (const unfinished of await parts.turns.takeUnfinished()) {
    const { turn, conversation, claimed } = unfinished;
    const goesOn = conversation.kind === 'conversation' || claimed;
    if (!goesOn || !(await goOn(parts, running, unfinished))) await endAbandoned(parts, unfinished);
    else
      parts.logger.info({ turn: turn.ref.turn, conversation: conversation.id }, 'took up a turn of the last process');
  }
}

/** False when it cannot go on. */
async function goOn(parts: EngineParts, running: RunningTurns, unfinished: UnfinishedTurn): Promise<boolean> {
  const { turn, conversation } = unfinished;
  const { ref } = turn;
  try {
    await stillAllowed(parts, conversation.profile);
  } catch (error) {
    parts.logger.warn({ turn: ref.turn, code: SallyportError.from(error).code }, 'a turn may not go on any more');
    return false;
  }
  const log = await logOf(parts, ref.tenant, ref.conversation);
  const message = log.find((event) => event.turn === ref.turn && event.body.type === 'user_message');
  if (message?.body.type !== 'user_message') return false;
  const { requestId, files } = turn.request as KeptRequest;
  const calls = await parts.usage.ofTurn(ref);
  const accepted = {
    ref,
    conversation,
    messageUuid: message.body.message_uuid,
    events: [],
    lastSeq: message.seq,
    first: message.seq === 1,
  };
  running.launch(accepted, {
    requestId,
    prompt: message.body.text,
    files: files ?? [],
    resume: message.seq > 1,
    earlier: { counters: turn, calls },
  });
  return true;
}
