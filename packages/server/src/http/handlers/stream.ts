import { startOfLog, StreamProjector, type StreamEvent, type StreamItem } from '@sallyport/protocol';
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify';
import type { Clock } from '../../engine/clock.ts';
import type { Engine, RunningTurn, TurnOutcome } from '../../engine/engine.ts';
import { SallyportError } from '../../engine/errors.ts';
import { tellReplay } from '../idempotency.ts';
import { leaveUnanswered } from '../key-watch.ts';
import type { Handlers } from '../routes.ts';
import type { OpenRuns } from '../runs.ts';
import { brokenStatus, doneFrame, eventFrame, heartbeatFrame, itemFrame, Puller, sendFrames } from '../sse.ts';

/** What streams go by. */
export interface Timing {
  readonly clock: Clock;
  /** Milliseconds of silence after which a stream gets a comment. */
  readonly heartbeatMs: number;
  /** True: a turn that ends without a result waits for a human, and goes on with the next start of the service. */
  readonly isClosing: () => boolean;
}

function endedEarly({ isClosing }: Timing): SallyportError {
  const cause = new Error('a turn ended without a result');
  return new SallyportError(isClosing() ? 'not_ready' : 'internal', { cause });
}

/** That a run waits is told at once: it may be long. */
const saysNothingYet = ({ event }: StreamItem): boolean =>
  event.type === 'retry' || (event.type === 'status' && event.status !== 'queued');

/**
 * Holds the first events back until one of them decides that there is an answer, or a heartbeat is due, so that a run
 * that could not happen is answered with its own status. Null: the client has left. Throws what the run failed with.
 */
async function pullHead(puller: Puller<StreamItem>, turn: RunningTurn, timing: Timing): Promise<StreamItem[] | null> {
  const { clock, heartbeatMs } = timing;
  const due = clock.monotonic() + heartbeatMs;
  const held: StreamItem[] = [];
  for (;;) {
    const pulled = await puller.next(Math.max(0, due - clock.monotonic()));
    if (pulled.kind === 'left') return null;
    if (pulled.kind === 'silence') return held;
    if (pulled.kind === 'end' || pulled.value.event.type === 'result') {
      const { error } = await turn.ended;
      if (error) throw error;
    }
    if (pulled.kind === 'end') throw endedEarly(timing);
    held.push(pulled.value);
    if (!saysNothingYet(pulled.value)) return held;
  }
}

/** The last event of a run's stream that broke off on our side. */
function brokenResult({ code, detail }: SallyportError, outcome: TurnOutcome): StreamEvent | undefined {
  const result = { ...outcome.result, success: false, stop_reason: 'error' as const, error: detail };
  const last = { seq: 1, turn: '', at: 0, body: { type: 'result' as const, result, code } };
  return new StreamProjector(startOfLog).log(last)?.event;
}

interface Stream {
  readonly puller: Puller<StreamItem>;
  readonly held: readonly StreamItem[];
  readonly turn: RunningTurn;
  readonly stop: (() => void) | null;
  readonly timing: Timing;
  readonly log: FastifyBaseLogger;
}

/**
 * Frames of the events from the held ones on. Ends without its last line when the client has left. When the source fails
 * a run of this client is stopped and the last event says so.
 */
async function* framesOf(stream: Stream): AsyncGenerator<string | Buffer> {
  const { puller, held, timing } = stream;
  try {
    for (const item of held) yield itemFrame(item);
    let complete = held.some(({ event }) => event.is_complete);
    if (held.length === 0) yield heartbeatFrame;
    while (!complete) {
      const pulled = await puller.next(timing.heartbeatMs);
      if (pulled.kind === 'left') return;
      if (pulled.kind === 'end') throw endedEarly(timing);
      yield pulled.kind === 'silence' ? heartbeatFrame : itemFrame(pulled.value);
      complete = pulled.kind === 'item' && pulled.value.event.is_complete;
    }
    yield doneFrame;
  } catch (thrown) {
    const error = SallyportError.from(thrown);
    if (error.code !== 'not_ready') stream.log.error({ err: thrown }, 'a stream broke off');
    if (!stream.stop) {
      yield eventFrame(null, brokenStatus(error));
      return;
    }
    stream.stop();
    yield eventFrame(null, brokenResult(error, await stream.turn.ended));
    yield doneFrame;
  } finally {
    puller.close();
  }
}

/** A turn that is to be streamed. */
export interface StreamedTurn {
  readonly turn: RunningTurn;
  /** Aborted when the client has left, or its key is gone. */
  readonly left: AbortSignal;
  /** Stops the turn when its stream fails. Null: the turn goes on, and its events can be read elsewhere. */
  readonly stop: (() => void) | null;
}

/**
 * Answers with the events of a turn. What the turn fails with before there is anything to say is thrown; what fails
 * later is the last event.
 */
export async function streamTurn(
  request: FastifyRequest,
  reply: FastifyReply,
  { turn, left, stop }: StreamedTurn,
  timing: Timing,
): Promise<FastifyReply> {
  tellReplay(reply, turn);
  const puller = new Puller(turn.events(), left);
  try {
    const held = await pullHead(puller, turn, timing);
    if (!held) return leaveUnanswered(reply);
    return sendFrames(reply, framesOf({ puller, held, turn, stop, timing, log: request.log }));
  } catch (error) {
    puller.close();
    stop?.();
    throw error;
  }
}

/** Runs a query and streams its events. The run stops when the client leaves, unless it can ask for it again. */
export function streamHandler(engine: Engine, runs: OpenRuns, timing: Timing): Handlers['stream'] {
  return async ({ request, reply, principal, body, idempotencyKey }) => {
    const run = runs.open(reply);
    const context = { requestId: request.id, signal: run.stopped, idempotencyKey };
    const turn = await engine.startQuery(principal, body, context);
    const stop = idempotencyKey === null ? () => run.stop() : null;
    return streamTurn(request, reply, { turn, left: run.left, stop }, timing);
  };
}
