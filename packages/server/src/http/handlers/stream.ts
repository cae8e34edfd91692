import { startOfLog, StreamProjector, type StreamEvent, type StreamItem } from '@sallyport/protocol';
import type { FastifyReply } from 'fastify';
import type { Engine, RunningTurn, TurnOutcome } from '../../engine/engine.ts';
import { SallyportError } from '../../engine/errors.ts';
import type { Reader } from '../../engine/feed.ts';
import { tellReplay } from '../idempotency.ts';
import { leaveUnanswered } from '../key-watch.ts';
import type { Handlers } from '../routes.ts';
import type { OpenRuns } from '../runs.ts';
import { brokenStatus, EventStream, eventText, frameOf, itemFrame, type Frame } from '../sse.ts';
import type { Watching } from './events.ts';

/** What streams of turns are made of. */
export interface TurnWatching extends Watching {
  /** Milliseconds of silence after which a stream begins though nothing was said. */
  readonly heartbeatMs: number;
}

/** True while the service closes: a turn that ends without a result then goes on with its next start. */
function endedEarly({ isClosing }: Watching): SallyportError {
  const cause = new Error('a turn ended without a result');
  return new SallyportError(isClosing() ? 'not_ready' : 'internal', { cause });
}

/** That a run waits is told at once: it may be long. */
const saysSomething = ({ event }: StreamItem): boolean =>
  event.type !== 'retry' && (event.type !== 'status' || event.status === 'queued');

/**
 * Holds the first events back until one of them decides that there is an answer, so that a run that could not happen is
 * answered with its own status; then passes all on to a stream.
 */
class Head implements Reader {
  readonly #held: StreamItem[] = [];
  #ending: { readonly failure: unknown } | 'end' | null = null;
  #stream: Reader | null = null;
  readonly #decided = Promise.withResolvers<void>();

  take(item: StreamItem, more?: boolean): boolean {
    if (this.#stream) return this.#stream.take(item, more);
    this.#held.push(item);
    if (saysSomething(item)) this.#decided.resolve();
    return true;
  }

  end(): void {
    if (this.#stream) this.#stream.end();
    this.#ending = 'end';
    this.#decided.resolve();
  }

  fail(failure: unknown): void {
    if (this.#stream) this.#stream.fail(failure);
    this.#ending = { failure };
    this.#decided.resolve();
  }

  /**
   * Resolves when it is decided, after a heartbeat, or when the client has left. Rejects with what the turn failed
   * with before anything was said.
   */
  async decided(turn: RunningTurn, left: AbortSignal, watching: TurnWatching): Promise<void> {
    const { promise, resolve } = this.#decided;
    const due = setTimeout(resolve, watching.heartbeatMs);
    const leave = () => resolve();
    left.addEventListener('abort', leave, { once: true });
    if (left.aborted) leave();
    await promise;
    clearTimeout(due);
    left.removeEventListener('abort', leave);
    const first = this.#held.find(saysSomething);
    if (left.aborted || (first && first.event.type !== 'result')) return;
    if (!first && this.#ending === null) return;
    if (!first && this.#ending !== 'end') throw this.#ending?.failure;
    const { error } = await turn.ended;
    if (error) throw error;
    if (!first) throw endedEarly(watching);
  }

  /** Passes on what was held, and from now on all that comes. */
  passTo(stream: TurnStream): void {
    this.#stream = stream;
    if (this.#held.length === 0) stream.greet();
    for (const item of this.#held.splice(0)) stream.take(item);
    if (this.#ending === 'end') stream.end();
    else if (this.#ending) stream.fail(this.#ending.failure);
  }
}

/** The last event of a run's stream that broke off on our side. */
function brokenResult({ code, detail }: SallyportError, outcome: TurnOutcome): StreamEvent | undefined {
  const result = { ...outcome.result, success: false, stop_reason: 'error' as const, error: detail };
  const last = { seq: 1, turn: '', at: 0, body: { type: 'result' as const, result, code } };
  return new StreamProjector(startOfLog).log(last)?.event;
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
 * The stream of whoever runs a turn: ends with its result. When the turn cannot be followed a run of this client is
 * stopped, and the last event says so.
 */
class TurnStream extends EventStream<StreamItem> {
  readonly #streamed: StreamedTurn;
  readonly #watching: TurnWatching;

  constructor(reply: FastifyReply, streamed: StreamedTurn, watching: TurnWatching) {
    super(reply, watching.streams);
    this.#streamed = streamed;
    this.#watching = watching;
  }

  protected override frameOf(item: StreamItem): Frame {
    return itemFrame(item);
  }

  /** What comes in the same breath is sent together. */
  override take(item: StreamItem): boolean {
    const takesMore = super.take(item, true);
    if (item.event.is_complete) this.close(null, true);
    return takesMore;
  }

  override keyGone(reason: SallyportError): void {
    super.keyGone(reason);
    this.#streamed.stop?.();
  }

  end(): void {
    this.fail(endedEarly(this.#watching));
  }

  fail(thrown: unknown): void {
    if (this.over) return;
    const { turn, stop } = this.#streamed;
    const error = SallyportError.from(thrown);
    if (error.code !== 'not_ready') this.#watching.log.error({ err: thrown }, 'a stream broke off');
    if (!stop) {
      this.close(frameOf(eventText(null, brokenStatus(error))), false);
      return;
    }
    stop();
    void turn.ended.then((outcome) => this.close(frameOf(eventText(null, brokenResult(error, outcome))), true));
  }
}

/**
 * Answers with the events of a turn. What the turn fails with before there is anything to say is thrown; what fails
 * later is the last event.
 */
export async function streamTurn(
  reply: FastifyReply,
  streamed: StreamedTurn,
  watching: TurnWatching,
): Promise<FastifyReply> {
  const { turn, left, stop } = streamed;
  tellReplay(reply, turn);
  const head = new Head();
  const following = turn.events().follow(head);
  try {
    await head.decided(turn, left, watching);
    if (left.aborted) {
      following.stop();
      return leaveUnanswered(reply);
    }
    const stream = new TurnStream(reply, streamed, watching);
    stream.follows(following);
    head.passTo(stream);
    return reply;
  } catch (error) {
    following.stop();
    stop?.();
    throw error;
  }
}

/** Runs a query and streams its events. The run stops when the client leaves, unless it can ask for it again. */
export function streamHandler(engine: Engine, runs: OpenRuns, watching: TurnWatching): Handlers['stream'] {
  return async ({ request, reply, principal, body, idempotencyKey }) => {
    const run = runs.open(reply);
    const context = { requestId: request.id, signal: run.stopped, idempotencyKey };
    const turn = await engine.startQuery(principal, body, context);
    const stop = idempotencyKey === null ? () => run.stop() : null;
    return streamTurn(reply, { turn, left: run.left, stop }, watching);
  };
}
