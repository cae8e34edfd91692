import type { ApprovalInfo, ConversationWaiting } from '@sallyport/protocol';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Engine, RunningTurn, TurnOutcome } from '../../engine/engine.ts';
import { SallyportError } from '../../engine/errors.ts';
import type { Principal } from '../../engine/principal.ts';
import { tellReplay } from '../idempotency.ts';
import { leaveUnanswered } from '../key-watch.ts';
import type { Handlers } from '../routes.ts';
import type { OpenRuns } from '../runs.ts';
import { asksForEvents } from '../sse.ts';
import { streamTurn, type TurnWatching } from './stream.ts';

/** A request that says something in a conversation. */
interface TurnCall {
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  readonly principal: Principal;
  readonly start: () => Promise<RunningTurn>;
  /** The answer's body, once the turn has ended. */
  readonly answer: (outcome: TurnOutcome, turn: RunningTurn) => unknown;
}

/** Resolves when the signal is aborted. */
const aborted = (signal: AbortSignal) =>
  new Promise<'left'>((resolve) => {
    if (signal.aborted) resolve('left');
    else signal.addEventListener('abort', () => resolve('left'), { once: true });
  });

/** The approvals of a conversation that are pending. */
async function pendingOf(engine: Engine, principal: Principal, conversation: string): Promise<ApprovalInfo[]> {
  const pending: ApprovalInfo[] = [];
  let cursor: string | undefined;
  do {
    const page = await engine.approvals(principal, { status: 'pending', limit: 200, cursor });
    pending.push(...page.items.filter(({ session_id }) => session_id === conversation));
    cursor = page.next_cursor ?? undefined;
  } while (cursor !== undefined);
  return pending;
}

const waitingFor = ({ conversation }: RunningTurn, approvals: ApprovalInfo[]): ConversationWaiting => ({
  session_id: conversation,
  status: 'waiting',
  stop_reason: 'waiting',
  success: false,
  approvals,
});

/**
 * What comes first: the end of a turn, the approvals it waits for, or that the client has left. A service that closes
 * leaves a turn that waits to its next start, so that it waits rather than failed.
 */
async function firstOf(
  engine: Engine,
  principal: Principal,
  turn: RunningTurn,
  left: AbortSignal,
): Promise<TurnOutcome | ApprovalInfo[] | 'left'> {
  const first = await Promise.race([turn.ended, turn.waiting, aborted(left)]);
  if (first === 'left' || Array.isArray(first) || first.error?.code !== 'not_ready') return first;
  const pending = await pendingOf(engine, principal, turn.conversation);
  return pending.length > 0 ? pending : first;
}

/** Starts conversations and continues them. A turn goes on when its client leaves. */
export function turnHandlers(
  engine: Engine,
  runs: OpenRuns,
  watching: TurnWatching,
): Pick<Handlers, 'startConversation' | 'continueConversation'> {
  async function answerTurn({ request, reply, principal, start, answer }: TurnCall): Promise<unknown> {
    reply.header('vary', 'Origin, Accept');
    const { left } = runs.open(reply);
    const turn = await start();
    if (asksForEvents(request.headers.accept)) return streamTurn(reply, { turn, left, stop: null }, watching);
    tellReplay(reply, turn);
    const first = await firstOf(engine, principal, turn, left);
    if (first === 'left' || left.aborted) return leaveUnanswered(reply);
    if (Array.isArray(first)) return reply.code(202).send(waitingFor(turn, first));
    if (first.error) throw first.error;
    return answer(first, turn);
  }
  return {
    startConversation: ({ request, reply, principal, query, body, idempotencyKey }) =>
      answerTurn({
        request,
        reply,
        principal,
        start: () =>
          engine.startConversation(principal, body, {
            requestId: request.id,
            idempotencyKey,
            sessionId: query.session_id,
          }),
        answer: ({ result, messages }) => ({ ...result, messages, message_count: messages.length }),
      }),
    continueConversation: async ({ request, reply, principal, params, body, idempotencyKey }) => {
      const id = params.session_id;
      if (body.session_id !== id) {
        throw new SallyportError('bad_request', { detail: 'The session_id of the body is not the one of the path.' });
      }
      return answerTurn({
        request,
        reply,
        principal,
        start: () =>
          engine.continueConversation(principal, id, body.message, { requestId: request.id, idempotencyKey }),
        answer: async ({ result, messages }, turn) => ({
          ...result,
          new_messages: messages,
          total_messages: await turn.totalMessages(),
        }),
      });
    },
  };
}
