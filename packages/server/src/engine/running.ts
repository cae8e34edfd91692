import type { ApprovalInfo } from '@sallyport/protocol';
import type { ApprovalDesk } from './approval-desk.ts';
import { approvalInfo } from './approvals.ts';
import { mayCall } from './budgets.ts';
import { logOf } from './conversations.ts';
import type { EngineParts, TurnOutcome } from './engine.ts';
import { SallyportError } from './errors.ts';
import type { LiveLogs } from './live.ts';
import { abandonedResult, type StopCause } from './outcome.ts';
import { StaleEpochError, type ModelCall, type RunOrder, type TurnCounters } from './ports.ts';
import { onAbort } from './signals.ts';
import type { Whose } from './stops.ts';
import { TurnLog } from './turn-log.ts';
import { Turn } from './turn.ts';
import { endOf, type AcceptedTurn } from './turns.ts';

/** What of a turn is not already in its acceptance. */
export interface Launch extends Pick<RunOrder, 'prompt' | 'files' | 'resume'> {
  readonly requestId: string;
  /** Set when an earlier process of the service ran the turn and lost it. */
  readonly earlier: { readonly counters: TurnCounters; readonly calls: readonly ModelCall[] } | null;
}

/** A turn that runs. */
export interface Running {
  readonly whose: Whose;
  readonly turn: Turn;
  /** Never rejects. */
  readonly ended: Promise<TurnOutcome>;
  /** Resolves when the turn's timeout has passed and a human is awaited. */
  readonly waiting: Promise<ApprovalInfo[]>;
}

export const keyOf = (tenant: string, conversation: string): string => JSON.stringify([tenant, conversation]);

/** The turns that run here: each conversation has one at most. */
export class RunningTurns {
  readonly #parts: EngineParts;
  readonly #logs: LiveLogs;
  readonly #desk: ApprovalDesk;
  readonly #onBegin: (tenant: string, conversation: string) => void;
  readonly #running = new Map<string, Running>();
  /** What commits the ends that could not be committed so far, by conversation. */
  readonly #unstored = new Map<string, () => Promise<void>>();
  #draining = false;
  #closing = false;

  /** `onBegin` is called before the first event of a turn is published. */
  constructor(
    parts: EngineParts,
    logs: LiveLogs,
    desk: ApprovalDesk,
    onBegin: (tenant: string, conversation: string) => void,
  ) {
    this.#parts = parts;
    this.#logs = logs;
    this.#desk = desk;
    this.#onBegin = onBegin;
  }

  get draining(): boolean {
    return this.#draining;
  }

  /** Throws `not_ready` where nothing new may run: the service stops, or this node has lost its lease. */
  check(): void {
    if (this.#draining) throw new SallyportError('not_ready');
    this.#parts.lease.check();
  }

  get size(): number {
    return this.#running.size;
  }

  /** True when the turn of a conversation runs here, or its end is still to be committed. */
  has(tenant: string, conversation: string): boolean {
    const name = keyOf(tenant, conversation);
    return this.#running.has(name) || this.#unstored.has(name);
  }

  /** Runs an accepted turn. It is stopped at once when a stop names it, and as soon as the key that owns it is not valid. */
  launch(accepted: AcceptedTurn, launch: Launch): Running {
    const { ref, conversation } = accepted;
    const whose: Whose = { tenant: ref.tenant, key: conversation.key, conversation: ref.conversation };
    const live = this.#logs.acquire(ref.tenant, ref.conversation);
    const { turns, clock, stops, keyRing, configuration, lease } = this.#parts;
    const log = new TurnLog(turns, clock, ref, live, { actor: whose.key, configuration });
    this.#onBegin(ref.tenant, ref.conversation);
    for (const event of accepted.events) log.live.event(event);
    const turn = this.#turnOf(accepted, launch, log);
    if (this.#closing) turn.stop({ reason: 'shutdown' });
    if (stops.holds(whose)) turn.stop({ reason: 'stopped' });
    if (this.#draining) turn.free();
    if (!lease.held) turn.lose();
    const owner = keyRing.watch({ tenant: whose.tenant, key: whose.key });
    onAbort(owner.gone, () => turn.stop(causeOf(owner.gone.reason)));
    const name = keyOf(ref.tenant, ref.conversation);
    const over = new AbortController();
    const ended = this.#endOf(accepted, log, turn).finally(() => {
      over.abort();
      owner.release();
      if (this.#running.get(name) === running) this.#running.delete(name);
      this.#logs.release(ref.tenant, ref.conversation);
    });
    const seconds = conversation.limits.timeoutSeconds;
    const running = { whose, turn, ended, waiting: waitingAfter(turn, seconds * 1000, over.signal) };
    // What this node has taken over from itself writes nothing any more.
    this.#running.get(name)?.turn.lose();
    this.#running.set(name, running);
    return running;
  }

  /** Stops the turn of a conversation and waits for its end. False when none ran. */
  async stop(tenant: string, conversation: string, cause: StopCause): Promise<boolean> {
    const running = this.#running.get(keyOf(tenant, conversation));
    if (!running) return false;
    running.turn.stop(cause);
    await running.ended;
    return true;
  }

  /**
   * Stops all turns that match, none after the other, and waits for their ends. Gives how many there were; never rejects
   * unless `matches` throws.
   */
  async stopWhere(matches: (whose: Whose) => boolean, cause: StopCause): Promise<number> {
    const matching = [...this.#running.values()].filter(({ whose }) => matches(whose));
    for (const { turn } of matching) turn.stop(cause);
    await Promise.all(matching.map(({ ended }) => ended));
    return matching.length;
  }

  /**
   * Lets running turns go on to their end, and leaves those that wait for a human to another node or the next start.
   * Resolves when none is left.
   */
  async drain(): Promise<void> {
    this.#draining = true;
    const running = [...this.#running.values()];
    for (const { turn } of running) turn.free();
    await Promise.all(running.map(({ ended }) => ended));
  }

  /** Ends at once all that runs, and commits nothing more for it. Resolves when none of its processes is left. */
  async drop(): Promise<void> {
    const running = [...this.#running.values()];
    for (const { turn } of running) turn.lose();
    await Promise.all(running.map(({ ended }) => ended));
  }

  /** Stops what runs, and waits until every end is committed. */
  async close(): Promise<void> {
    const drained = this.drain();
    this.#closing = true;
    for (const { turn } of this.#running.values()) if (turn.pending === null) turn.stop({ reason: 'shutdown' });
    await drained;
    await this.settle();
  }

  /** Tries again to commit the ends that could not be committed, of one conversation or of all. Never rejects. */
  async settle(name?: string): Promise<void> {
    for (const [each, commit] of this.#unstored) {
      if (name !== undefined && each !== name) continue;
      try {
        await commit();
        this.#unstored.delete(each);
      } catch (error) {
        if (error instanceof StaleEpochError) this.#unstored.delete(each);
      }
    }
  }

  #turnOf(accepted: AcceptedTurn, { requestId, earlier, ...launch }: Launch, log: TurnLog): Turn {
    const { ref, conversation, messageUuid, budgetUsd } = accepted;
    const { profile, limits, sdkSession, key, kind } = conversation;
    // A slot's files outlive a one-shot only where there can be any, as it can be continued.
    const keepFiles = kind === 'conversation' || profile.access === 'rw' || launch.files.length > 0;
    const order: RunOrder = {
      ...launch,
      ...limits,
      budgetUsd,
      ref,
      key,
      profile,
      sdkSession,
      messageUuid,
      keepFiles,
      stay: kind === 'conversation',
      recovery: null,
      before: { calls: 0, spentUsd: 0 },
    };
    return new Turn({
      ...this.#parts,
      desk: this.#desk,
      log,
      requestId,
      earlier,
      order,
      maxTurns: limits.maxTurns,
      timeoutSeconds: limits.timeoutSeconds,
      waitingCounts: kind === 'query',
      mayCall: (spentUsd) => mayCall(this.#parts, { turn: ref, key }, spentUsd),
      events: async () =>
        (await logOf(this.#parts, ref.tenant, ref.conversation)).filter((event) => event.turn === ref.turn),
    });
  }

  async #endOf(accepted: AcceptedTurn, log: TurnLog, turn: Turn): Promise<TurnOutcome> {
    const end = await endOf(this.#parts, accepted, log, turn);
    if (end) {
      const { tenant, conversation } = accepted.ref;
      if (end.commit) this.#unstored.set(keyOf(tenant, conversation), end.commit);
      return end.outcome;
    }
    // The turn has no end, but its followers have: whoever comes back reads on where it goes on.
    log.live.end();
    const { conversation } = accepted;
    const result = abandonedResult(conversation.id, conversation.profile.model);
    return { result, messages: [], error: new SallyportError('not_ready') };
  }
}

function waitingAfter(turn: Turn, ms: number, over: AbortSignal): Promise<ApprovalInfo[]> {
  return new Promise((resolve) => {
    let due = false;
    const tell = () => {
      if (due && turn.pending) resolve([approvalInfo(turn.pending)]);
    };
    const timer = setTimeout(() => {
      due = true;
      tell();
    }, ms);
    over.addEventListener('abort', () => clearTimeout(timer), { once: true });
    turn.onWaiting(tell);
  });
}

/** Why a turn stops whose key is gone, or of whose key that cannot be found out. */
function causeOf(reason: unknown): StopCause {
  const error = SallyportError.from(reason);
  return error.code === 'invalid_key' ? { reason: 'key_gone' } : { reason: 'failed', error };
}
