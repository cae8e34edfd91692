import { Readable } from 'node:stream';
import {
  errorCatalogue,
  formatCursor,
  startOfLog,
  StreamProjector,
  type StreamEvent,
  type StreamItem,
} from '@sallyport/protocol';
import type { FastifyBaseLogger } from 'fastify';
import type { Clock } from '../../engine/clock.ts';
import type { Engine, RunningTurn, TurnOutcome } from '../../engine/engine.ts';
import { SallyportError } from '../../engine/errors.ts';
import type { Handlers } from '../routes.ts';
import type { OpenRun, OpenRuns } from '../runs.ts';
import { doneFrame, eventFrame, heartbeatFrame, Puller } from '../sse.ts';

const frameOf = ({ cursor, event }: StreamItem): string => eventFrame(formatCursor(cursor), event);
const saysNothingYet = ({ event }: StreamItem): boolean => event.type === 'status' || event.type === 'retry';

/**
 * Holds the first events back until one of them decides that there is an answer, or a heartbeat is due, so that a run
 * that could not happen is answered with its own status. Null: the client has left. Throws what the run failed with.
 */
async function pullHead(
  puller: Puller<StreamItem>,
  turn: RunningTurn,
  clock: Clock,
  heartbeatMs: number,
): Promise<StreamItem[] | null> {
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
    if (pulled.kind === 'end')
      throw new SallyportError('internal', { cause: new Error('a turn ended without a result') });
    held.push(pulled.value);
    if (!saysNothingYet(pulled.value)) return held;
  }
}

/** The last event of a stream that broke off on our side. */
function brokenEvent(outcome: TurnOutcome): StreamEvent | undefined {
  const error = errorCatalogue.internal.detail;
  const result = { ...outcome.result, success: false, stop_reason: 'error' as const, error };
  const last = { seq: 1, turn: '', at: 0, body: { type: 'result' as const, result, code: 'internal' } };
  return new StreamProjector(startOfLog).log(last)?.event;
}

interface Stream {
  readonly puller: Puller<StreamItem>;
  readonly held: readonly StreamItem[];
  readonly turn: RunningTurn;
  readonly run: OpenRun;
  readonly heartbeatMs: number;
  readonly log: FastifyBaseLogger;
}

/** Frames of the events from the held ones on. Ends without its last line when the client has left. */
async function* framesAfter(stream: Stream): AsyncGenerator<string> {
  const { puller, held, heartbeatMs } = stream;
  for (const item of held) yield frameOf(item);
  let complete = held.some(({ event }) => event.is_complete);
  if (held.length === 0) yield heartbeatFrame;
  while (!complete) {
    const pulled = await puller.next(heartbeatMs);
    if (pulled.kind === 'left') return;
    if (pulled.kind === 'end') throw new Error('a turn ended without a result');
    if (pulled.kind === 'silence') {
      yield heartbeatFrame;
      continue;
    }
    yield frameOf(pulled.value);
    complete = pulled.value.event.is_complete;
  }
  yield doneFrame;
}

/** The frames of a stream. When its source fails the run is stopped and the last event says so. */
async function* framesOf(stream: Stream): AsyncGenerator<string> {
  try {
    yield* framesAfter(stream);
  } catch (error) {
    stream.log.error({ err: error }, 'a stream broke off');
    stream.run.stop();
    yield eventFrame(null, brokenEvent(await stream.turn.ended));
    yield doneFrame;
  } finally {
    stream.puller.close();
  }
}

/** Runs a query and streams its events. */
export function streamHandler(engine: Engine, runs: OpenRuns, clock: Clock, heartbeatMs: number): Handlers['stream'] {
  return async ({ request, reply, principal, body }) => {
    const run = runs.open(reply);
    const turn = await engine.startQuery(principal, body, { requestId: request.id, signal: run.stopped });
    const puller = new Puller(turn.events(), run.left);
    try {
      const held = await pullHead(puller, turn, clock, heartbeatMs);
      if (!held) return reply.hijack();
      const stream: Stream = { puller, held, turn, run, heartbeatMs, log: request.log };
      reply.header('content-type', 'text/event-stream');
      reply.header('cache-control', 'no-cache');
      reply.header('x-accel-buffering', 'no');
      return reply.send(Readable.from(framesOf(stream), { objectMode: false }));
    } catch (error) {
      puller.close();
      run.stop();
      throw error;
    }
  };
}
