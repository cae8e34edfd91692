import {
  isReadTool,
  StreamProjector,
  type LogEvent,
  type QueryRequest,
  type RunResult,
  type StreamItem,
} from '@sallyport/protocol';
import { AuditSpool } from './audit-spool.ts';
import { logOf } from './conversations.ts';
import type { EngineParts, RunningTurn, TurnOutcome } from './engine.ts';
import { feedOf } from './feed.ts';
import type { LiveLogs } from './live.ts';
import { messagesOf } from './messages.ts';
import { sumUsage } from './outcome.ts';
import type { Profile, TurnRef } from './ports.ts';
import type { Principal } from './principal.ts';
import { SeenConversations } from './seen-conversations.ts';
import { canonicalHash } from './tool-inputs.ts';

/** Names how answers are stored; another form needs another name. */
const format = 'answer 1';

/** A one-shot that was asked for and is allowed. */
export interface OneShot {
  readonly principal: Principal;
  readonly profile: Profile;
  readonly request: QueryRequest;
  readonly requestId: string;
  /** Aborted when whoever asked has left. */
  readonly signal: AbortSignal;
}

/** A run that was started for it. */
export interface StartedRun {
  readonly ref: TurnRef;
  readonly turn: RunningTurn;
  /** Stops it, as nobody wants it any more. */
  readonly stop: () => void;
}

/** A run for all who ask the same meanwhile. */
interface SharedRun extends StartedRun {
  /** True when it has ended and its answer is stored, if it is to be. */
  readonly isOver: () => boolean;
  /** Resolves then. Never rejects. */
  readonly ended: Promise<TurnOutcome>;
}

interface Flight {
  /** How many still want the run. */
  waiting: number;
  /** Rejects when it could not be started. */
  readonly run: Promise<SharedRun>;
}

/** An answer that was stored: the events of its turn. */
interface StoredAnswer {
  readonly log: readonly LogEvent[];
  readonly turn: string;
  readonly result: RunResult;
}

/** What a result says of the request that is answered with it, and not of the run. */
type OfRequest = Pick<RunResult, 'request_id' | 'execution_time' | 'tokens_used' | 'usage' | 'cost_usd' | 'cached'>;

/**
 * Names the answer to a one-shot by all that can change it. Null when the answer may not be used again: nobody asked for
 * that, or the run could change something, or it depends on what is not in the request.
 */
export function answerKey(
  { configuration, cacheTtlSeconds }: Pick<EngineParts, 'configuration' | 'cacheTtlSeconds'>,
  { profile, request }: Pick<OneShot, 'profile' | 'request'>,
): string | null {
  const { cache, metadata: _, ...asked } = request;
  const onlyReads = profile.access === 'ro' && profile.projectPath === null && profile.tools.every(isReadTool);
  if (cache === 'bypass' || cacheTtlSeconds === 0 || !onlyReads) return null;
  return canonicalHash([format, configuration, profile.tenant, profile, asked]);
}

/**
 * Answers one-shots that ask for it with what was answered before, and lets equal ones that are there at once share a
 * run. Only requests of one key share it: that key pays for it, and what stops the key stops it.
 */
export class Answers {
  readonly #parts: EngineParts;
  readonly #logs: LiveLogs;
  /** The runs that may be shared, by answer and key. */
  readonly #flights = new Map<string, Flight>();
  readonly #seen: SeenConversations;
  readonly #lines: AuditSpool;

  constructor(parts: EngineParts, logs: LiveLogs) {
    this.#parts = parts;
    this.#logs = logs;
    this.#seen = new SeenConversations(parts.conversations, parts.clock);
    this.#lines = new AuditSpool(parts.audit, parts.logger);
  }

  /** A conversation is gone: answers of it are not given any more. */
  forget(tenant: string, conversation: string): void {
    this.#seen.forget(tenant, conversation);
  }

  /** Resolves when what was given is written down. Rejects when it cannot be. */
  async close(): Promise<void> {
    await this.#lines.close();
  }

  /**
   * Gives the stored answer, the run of an equal request, or else the one that is started. Rejects as `start` does, and
   * when a stored answer cannot be written down as given.
   */
  async to(asked: OneShot, start: () => Promise<StartedRun>): Promise<RunningTurn> {
    const { principal, request, signal } = asked;
    const since = this.#parts.clock.monotonic();
    const key = answerKey(this.#parts, asked);
    if (key === null) {
      const { turn, stop } = await start();
      whenLeft(signal, stop, turn.ended);
      return turn;
    }
    const isAuto = request.cache === 'auto';
    const stored = isAuto ? await this.#stored(key, principal.tenant) : null;
    if (stored) return await this.#hit(stored, asked, since);
    const name = canonicalHash([key, principal.key]);
    const flying = isAuto ? this.#flights.get(name) : undefined;
    const run = await this.#board(name, flying ?? this.#depart(name, key, start), signal);
    const own = run.ended.then(() => (flying ? this.#told('coalesced', asked, since) : null));
    return {
      ...run.turn,
      ended: Promise.all([run.ended, own]).then(([end, told]) => ({ ...end, result: { ...end.result, ...told } })),
      events: () => feedOf(eventsOf(this.#parts, run, own)),
    };
  }

  /** Gives a stored answer; not while the audit log cannot be written, where its line comes a moment later. */
  async #hit({ log, turn, result }: StoredAnswer, asked: OneShot, since: number): Promise<RunningTurn> {
    const { clock } = this.#parts;
    const { tenant, key: actor } = asked.principal;
    const { session_id: conversation } = result;
    const [ref, details] = [{ conversation, turn }, { request_id: asked.requestId }];
    const line = { at: clock.now(), tenant, actor, action: 'query.cached', ref, subject: conversation, details };
    await this.#lines.add(line);
    const told = this.#told('hit', asked, since);
    const messages = messagesOf(log);
    return {
      conversation,
      replayed: false,
      waiting: new Promise(() => {}),
      ended: Promise.resolve({ result: { ...result, ...told }, messages, error: null }),
      events: () => feedOf(withResult(wireEvents(log), Promise.resolve(told))),
      totalMessages: async () => messages.length,
    };
  }

  /** What is said of a request that has run nothing itself: nothing was spent for it. */
  #told(cached: 'hit' | 'coalesced', { requestId }: OneShot, since: number): OfRequest {
    const passed = Math.round(this.#parts.clock.monotonic() - since);
    return {
      request_id: requestId,
      execution_time: passed / 1000,
      tokens_used: 0,
      usage: sumUsage([]),
      cost_usd: 0,
      cached,
    };
  }

  /** The answer under a key; null also when it cannot be read, or its conversation was deleted. */
  async #stored(key: string, tenant: string): Promise<StoredAnswer | null> {
    const { responseCache, logger } = this.#parts;
    let stored: StoredAnswer | null = null;
    try {
      const text = await responseCache.get(key);
      stored = text === null ? null : answerIn(text);
    } catch (error) {
      logger.warn({ err: error }, 'a stored answer could not be read');
    }
    return stored && (await this.#seen.isThere(tenant, stored.result.session_id)) ? stored : null;
  }

  /** Stores the answer of a run that ended well. Never rejects. */
  async #store(key: string, ref: TurnRef, { result, error }: TurnOutcome): Promise<void> {
    if (error !== null || !result.success || result.stop_reason !== 'end_turn') return;
    const { responseCache, cacheTtlSeconds, logger } = this.#parts;
    try {
      await responseCache.set(key, JSON.stringify(await ownLog(this.#parts, ref)), cacheTtlSeconds);
    } catch (thrown) {
      logger.warn({ conversation: ref.conversation, err: thrown }, 'an answer could not be stored');
    }
  }

  /** Starts a run that later requests can share. It takes the place of one that older requests share. */
  #depart(name: string, key: string, start: () => Promise<StartedRun>): Flight {
    // One that was left or replaced is not stored: its answer may be cut, or older than the one that is there.
    const store = async (ref: TurnRef, outcome: TurnOutcome) => {
      if (this.#flights.get(name) === flight) await this.#store(key, ref, outcome);
    };
    const flight: Flight = { waiting: 0, run: this.#share(start, store) };
    this.#flights.set(name, flight);
    const land = () => this.#land(name, flight);
    flight.run.then(({ ended }) => ended).then(land, land);
    return flight;
  }

  /** Nobody shares it any more from now on. */
  #land(name: string, flight: Flight): void {
    if (this.#flights.get(name) === flight) this.#flights.delete(name);
  }

  async #share(
    start: () => Promise<StartedRun>,
    store: (ref: TurnRef, outcome: TurnOutcome) => Promise<void>,
  ): Promise<SharedRun> {
    const started = await start();
    const { tenant, conversation } = started.ref;
    // Held until it is over, so that whoever comes before finds the moving end, also of a run that is not stored.
    this.#logs.acquire(tenant, conversation);
    let over = false;
    const ended = started.turn.ended.then(async (outcome) => {
      await store(started.ref, outcome);
      over = true;
      this.#logs.release(tenant, conversation);
      return outcome;
    });
    return { ...started, isOver: () => over, ended };
  }

  /** Shares a run, until the signal is aborted. When all have left, it stops. */
  async #board(name: string, flight: Flight, signal: AbortSignal): Promise<SharedRun> {
    flight.waiting += 1;
    const leave = () => {
      flight.waiting -= 1;
      if (flight.waiting > 0) return;
      this.#land(name, flight);
      flight.run.then(
        ({ stop }) => stop(),
        () => undefined,
      );
    };
    whenLeft(
      signal,
      leave,
      flight.run.then(({ ended }) => ended),
    );
    return await flight.run;
  }
}

/** Calls back, once, when the signal is aborted before the run has ended. */
function whenLeft(signal: AbortSignal, left: () => void, ended: Promise<unknown>): void {
  signal.addEventListener('abort', left, { once: true });
  if (signal.aborted) left();
  const over = () => signal.removeEventListener('abort', left);
  ended.then(over, over);
}

/** Throws when the text is not one that was stored. */
function answerIn(text: string): StoredAnswer {
  const log = JSON.parse(text) as readonly LogEvent[];
  const last = log.at(-1);
  if (last?.body.type !== 'result') throw new Error('a stored answer has no result');
  return { log, turn: last.turn, result: last.body.result };
}

const ownLog = async (parts: EngineParts, { tenant, conversation, turn }: TurnRef): Promise<LogEvent[]> =>
  (await logOf(parts, tenant, conversation)).filter((event) => event.turn === turn);

/** The wire events of a whole turn, without the user's own message. */
function wireEvents([first, ...rest]: readonly LogEvent[]): StreamItem[] {
  const projector = new StreamProjector({ seq: first?.seq ?? 0, chars: 0 });
  return rest.flatMap((event) => projector.log(event) ?? []);
}

/** The wire events of a shared run. Those of one that was refused end without a result, or throw. */
async function* eventsOf(parts: EngineParts, run: SharedRun, own: Promise<OfRequest | null>) {
  const items = run.isOver() ? wireEvents(await ownLog(parts, run.ref)) : run.turn.events();
  yield* withResult(items, own);
}

/** The events, the result with what it says of the request. It is told when that is there: when it is stored. */
async function* withResult(
  items: Iterable<StreamItem> | AsyncIterable<StreamItem>,
  own: Promise<OfRequest | null>,
): AsyncGenerator<StreamItem, void, undefined> {
  for await (const item of items) {
    if (item.event.type !== 'result') yield item;
    else yield { ...item, event: { ...item.event, ...(await own) } };
  }
}
