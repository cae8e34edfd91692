import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Engine, RunningTurn, TurnOutcome } from '../../engine/engine.ts';
import { SallyportError } from '../../engine/errors.ts';
import type { Principal } from '../../engine/principal.ts';
import type { Handlers } from '../routes.ts';
import type { OpenRuns } from '../runs.ts';
import { asksForEvents } from '../sse.ts';
import { streamTurn, type Timing } from './stream.ts';

/** A request that says something in a conversation. */
interface TurnCall {
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  readonly principal: Principal;
  readonly start: () => Promise<RunningTurn>;
  /** The answer's body, once the turn has ended. */
  readonly answer: (outcome: TurnOutcome, turn: RunningTurn) => unknown;
}

/** Starts conversations and continues them. A turn goes on when its client leaves. */
export function turnHandlers(
  engine: Engine,
  runs: OpenRuns,
  timing: Timing,
): Pick<Handlers, 'startConversation' | 'continueConversation'> {
  async function answerTurn({ request, reply, principal, start, answer }: TurnCall): Promise<unknown> {
    reply.header('vary', 'Origin, Accept');
    const { left, stopped } = runs.open(reply);
    const turn = await start();
    // Only a service that closes stops a turn, so that the answer still ends with what there is.
    const stop = () => {
      if (left.aborted) return;
      engine
        .interrupt(principal, turn.conversation)
        .catch((error: unknown) => request.log.error({ err: error }, 'a turn could not be stopped'));
    };
    if (stopped.aborted) stop();
    else stopped.addEventListener('abort', stop, { once: true });
    if (asksForEvents(request.headers.accept)) return streamTurn(request, reply, { turn, left, stop: null }, timing);
    const outcome = await turn.ended;
    if (left.aborted) return reply.hijack();
    if (outcome.error) throw outcome.error;
    return answer(outcome, turn);
  }
  return {
    startConversation: ({ request, reply, principal, query, body }) =>
      answerTurn({
        request,
        reply,
        principal,
        start: () => engine.startConversation(principal, body, { requestId: request.id, sessionId: query.session_id }),
        answer: ({ result, messages }) => ({ ...result, messages, message_count: messages.length }),
      }),
    continueConversation: async ({ request, reply, principal, params, body }) => {
      const id = params.session_id;
      if (body.session_id !== id) {
        throw new SallyportError('bad_request', { detail: 'The session_id of the body is not the one of the path.' });
      }
      return answerTurn({
        request,
        reply,
        principal,
        start: () => engine.continueConversation(principal, id, body.message, { requestId: request.id }),
        answer: async ({ result, messages }, turn) => ({
          ...result,
          new_messages: messages,
          total_messages: await turn.totalMessages(),
        }),
      });
    },
  };
}
