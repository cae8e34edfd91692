import { setTimeout as sleep } from 'node:timers/promises';
import type { LogEvent, QueryRequest, StreamItem } from '@sallyport/protocol';
import type { EngineParts, TurnOutcome } from './engine.ts';
import { SallyportError } from './errors.ts';
import { follow } from './follow.ts';
import { newId, newUuid } from './ids.ts';
import { messagesOf } from './messages.ts';
import { abandonedResult, type Outcome } from './outcome.ts';
import { StaleEpochError, type Profile, type TurnRef } from './ports.ts';
import type { Principal } from './principal.ts';
import { TurnLog } from './turn-log.ts';
import type { Turn } from './turn.ts';

const page = 500;
const commitPauses = [50, 200, 1000];

/** A turn whose acceptance is committed. */
export interface AcceptedTurn {
  readonly ref: TurnRef;
  readonly log: TurnLog;
  readonly sdkSession: string;
  readonly messageUuid: string;
  /** Last event of the acceptance: what follows is the run's. */
  readonly lastSeq: number;
}

/** Commits a one-shot query as a conversation of one turn, with the user's message. Nothing has run when it rejects. */
export async function acceptQuery(
  parts: EngineParts,
  principal: Principal,
  request: QueryRequest,
  profile: Profile,
): Promise<AcceptedTurn> {
  const sdkSession = newUuid();
  const messageUuid = newUuid();
  const at = parts.clock.now();
  const { ref, events } = await parts.turns
    .accept({
      conversation: {
        tenant: principal.tenant,
        id: newId('conv'),
        key: principal.key,
        kind: 'query',
        profile,
        sdkSession,
        metadata: request.metadata ?? {},
        createdAt: at,
      },
      turn: newId('turn'),
      request,
      at,
      events: [{ type: 'user_message', text: request.prompt, message_uuid: messageUuid }],
    })
    .catch((error: unknown) => {
      throw SallyportError.from(error);
    });
  const lastSeq = events.at(-1)?.seq ?? 0;
  return { ref, sdkSession, messageUuid, lastSeq, log: new TurnLog(parts.turns, parts.clock, ref) };
}

/** Runs an accepted turn and commits its end. Never rejects: an end that cannot be committed is an error of the outcome. */
export async function endOf(parts: EngineParts, accepted: AcceptedTurn, turn: Turn): Promise<TurnOutcome> {
  const { ref, log } = accepted;
  const outcome = await turn.run();
  if (outcome.error) {
    const { code, cause } = outcome.error;
    parts.logger.warn({ turn: ref.turn, conversation: ref.conversation, code, err: cause }, 'turn failed');
  }
  try {
    await commitEnd(parts, log, outcome);
    const events = await readAll(parts, ref);
    return { result: outcome.result, messages: messagesOf(events), error: outcome.error };
  } catch (error) {
    parts.logger.error(
      { turn: ref.turn, conversation: ref.conversation, err: error },
      'the end of a turn is not stored',
    );
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

async function readAll(parts: EngineParts, { tenant, conversation }: TurnRef): Promise<LogEvent[]> {
  const events: LogEvent[] = [];
  for (;;) {
    const next = await parts.turns.read(tenant, conversation, events.at(-1)?.seq ?? 0, page);
    events.push(...next);
    if (next.length < page) return events;
  }
}

/** The wire events of an accepted turn from its first to its result. */
export function eventsOf(parts: EngineParts, { ref, log, lastSeq }: AcceptedTurn): AsyncGenerator<StreamItem> {
  const { tenant, conversation, turn } = ref;
  return follow({ store: parts.turns, tenant, conversation, turn, live: log.live }, { seq: lastSeq, chars: 0 });
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
