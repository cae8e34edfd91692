import { isReadTool, type LogEventBody } from '@sallyport/protocol';
import { changesOf, ChangeTracker, type Changes } from './changes.ts';
import { Deadline } from './deadline.ts';
import { SallyportError } from './errors.ts';
import { Gate } from './gate.ts';
import { Line } from './line.ts';
import { outcomeOf, type Outcome, type StopCause } from './outcome.ts';
import {
  RunLostError,
  StaleEpochError,
  type Approval,
  type BrokerTurn,
  type ModelCall,
  type RunEnd,
  type RunHost,
  type RunOrder,
  type ToolCall,
  type WorkspaceView,
} from './ports.ts';
import { planRecovery, withdrawal, type Remains } from './recovery.ts';
import { onceAborted } from './signals.ts';
import type { TurnParts } from './turn-parts.ts';

const interrupted = (detail: string): RunEnd => ({
  reason: 'interrupted',
  failure: { code: null, detail },
  structuredOutput: null,
  model: null,
  calls: [],
});

/** One turn while it runs: the engine's side of its runs, its limits, and its end. */
export class Turn implements RunHost {
  readonly #parts: TurnParts;
  readonly #abort = new AbortController();
  readonly #freeing = new AbortController();
  readonly #startedAt: number;
  readonly #changes = new ChangeTracker();
  readonly #gate: Gate;
  readonly #deadline: Deadline;
  readonly #line: Line;
  readonly #calls: ModelCall[];
  #changed: Changes | null = null;
  #begun = Promise.resolve(); // that the turn is set to running: no model call comes before
  #batches: number;
  #stop: StopCause | null = null;
  #lost = false;
  #onWaiting: (() => void) | null = null;

  constructor(parts: TurnParts) {
    const { clock, earlier, timeoutSeconds, order, approvalHoldSeconds } = parts;
    this.#parts = parts;
    this.#startedAt = clock.monotonic();
    this.#batches = earlier?.counters.batches ?? 0;
    this.#calls = [...(earlier?.calls ?? [])];
    this.#line = new Line(parts, (cause) => this.stop(cause));
    const expired = () => this.stop(this.#line.refusal() ?? { reason: 'timeout', seconds: timeoutSeconds });
    this.#deadline = new Deadline(clock, timeoutSeconds * 1000, earlier?.counters.activeMs ?? 0, expired);
    this.#gate = new Gate({
      ...parts,
      order,
      changes: this.#changes,
      holdSeconds: approvalHoldSeconds,
      stopped: this.#abort.signal,
      freeing: this.#freeing.signal,
      waits: (waiting) => this.#waits(waiting),
    });
  }

  /** The approval that a human has still to decide. */
  get pending(): Approval | null {
    return this.#gate.pending;
  }

  /** Calls back each time the turn begins to wait for a human. */
  onWaiting(told: () => void): void {
    this.#onWaiting = told;
    if (this.pending) told();
  }

  /** Stops the run. The first cause counts. */
  stop(cause: StopCause): void {
    this.#stop ??= cause;
    this.#abort.abort();
  }

  /** Ends the run at once and commits nothing more for it: the turn may be another node's. */
  lose(): void {
    this.#lost = true;
    this.#parts.log.close();
    this.#abort.abort(new RunLostError());
  }

  /**
   * Frees the process as soon as a human is awaited, and leaves the turn to the next start of the service then. A turn of
   * which nothing has run and that waits for a process ends.
   */
  free(): void {
    this.#freeing.abort();
    this.#line.leave();
  }

  /**
   * Runs the turn to its end and gives it; the end is not yet committed. Null: the turn goes on elsewhere, as the service
   * stops while a human is awaited, or as it was lost.
   */
  async run(): Promise<Outcome | null> {
    let end: RunEnd | null = null;
    let thrown: unknown = null;
    try {
      this.#deadline.resume();
      end = await this.#toEnd();
      if (end === null) return null;
    } catch (error) {
      thrown = error;
    } finally {
      this.#deadline.pause();
    }
    if (this.#lost) return null;
    const { requestId, clock, order, maxTurns } = this.#parts;
    return outcomeOf({
      requestId,
      conversation: order.ref.conversation,
      profileModel: order.profile.model,
      maxTurns,
      seconds: (clock.monotonic() - this.#startedAt) / 1000,
      end: end && { ...end, calls: this.#calls },
      stop: this.#stop,
      thrown,
      toolsUsed: [...new Set(this.#gate.started.values())],
      denials: this.#gate.denials,
      changes: this.#changed ?? this.#unseen(),
    });
  }

  /** What is said of changes when the run ended before anybody could look at them. */
  #unseen(): Changes | null {
    const mayChange = [...this.#gate.started.values()].some((name) => !isReadTool(name));
    return mayChange ? { diff: null, truncated: true, paths: [], files: [] } : null;
  }

  /** One run after the other, as long as one was freed because a human is to decide. Null: the service stops meanwhile. */
  async #toEnd(): Promise<RunEnd | null> {
    const { log, order, earlier } = this.#parts;
    this.#begun = log.begin();
    this.#begun.catch((error: unknown) => this.stop({ reason: 'failed', error: SallyportError.from(error) }));
    let next: RunOrder | RunEnd | null = earlier === null ? order : await this.#recovered(true);
    while (next !== null && !('reason' in next)) {
      this.#gate.newProcess();
      const end = await this.#run(next);
      next = end.reason === 'freed' ? await this.#recovered(false) : end;
    }
    return next;
  }

  async #run(order: RunOrder): Promise<RunEnd> {
    const end = await this.#line.run({ ...order, before: this.#before() }, this, this.#abort.signal);
    this.#calls.push(...end.calls);
    return end;
  }

  #before(): RunOrder['before'] {
    const spentUsd = this.#calls.reduce((total, { costUsd }) => total + (costUsd ?? 0), 0);
    return { calls: this.#calls.filter(({ status }) => status === 200).length, spentUsd };
  }

  /** What the turn goes on with after it lost its process: an order, its end, or null when the service stops. */
  async #recovered(lost: boolean): Promise<RunOrder | RunEnd | null> {
    const { order, log } = this.#parts;
    for (;;) {
      if (this.#abort.signal.aborted) return interrupted('The run was stopped.');
      const remains = await this.#remains();
      if (lost) this.#takeOver(remains);
      const plan = planRecovery(remains);
      if (plan.kind === 'wait') {
        this.#gate.waitFor(plan.approval);
        const settled = await Promise.race([this.#gate.settled(), onceAborted(this.#freeing.signal)]);
        if (settled === 'aborted') return null;
        if (settled) await this.#gate.note(settled);
        continue;
      }
      if (lost) await log.recover(withdrawal(remains));
      if (plan.kind === 'interrupted') {
        if (remains.filesLost) await this.#parts.runner.giveUpFiles(order.ref.tenant, order.sdkSession);
        return interrupted(plan.detail);
      }
      if (plan.kind === 'answered') return { ...interrupted(''), reason: 'end_turn', failure: null };
      if (plan.kind === 'say') return { ...order, recovery: null };
      return { ...order, recovery: plan.recovery, resume: true, files: [] };
    }
  }

  async #remains(): Promise<Remains> {
    const { order, runner, approvals, events } = this.#parts;
    const { ref, sdkSession: session, profile } = order;
    const [log, transcript, asked, kept] = await Promise.all([
      events(),
      runner.transcriptState(ref.tenant, session, order.messageUuid),
      approvals.ofTurn(ref.tenant, ref.turn),
      profile.projectPath !== null || runner.areFilesKept(ref.tenant, session),
    ]);
    // What a human has decided meanwhile may not be written down yet.
    for (const approval of asked) {
      const noted = ({ body }: Remains['events'][number]) =>
        body.type === 'approval_decided' && body.approval_id === approval.id;
      if (approval.status !== 'pending' && !log.some(noted)) await this.#gate.note(approval);
    }
    return { events: log, transcript, approvals: asked, filesLost: !kept };
  }

  #takeOver({ events }: Remains): void {
    const starts = events.flatMap(({ body }) => (body.type === 'tool_start' ? [body] : []));
    this.#gate.startedBefore(starts.map(({ tool_use_id: id, name }) => [id, name] as const));
    if (starts.length > 0) this.#changes.missedSome();
  }

  #waits(waiting: boolean): void {
    if (!this.#parts.waitingCounts) {
      if (waiting) this.#deadline.pause();
      else if (!this.#abort.signal.aborted) this.#deadline.resume();
    }
    this.#count();
    if (waiting) this.#onWaiting?.();
  }

  timeLeftMs = () => this.#line.patienceMs(this.#deadline.leftMs);

  queued = (place: number) => this.#line.queued(place);

  delta(block: 'text' | 'thinking', text: string): void {
    this.#parts.log.delta(block, text);
  }

  async record(event: LogEventBody): Promise<void> {
    try {
      await this.#parts.log.append(event);
    } catch (error) {
      if (error instanceof StaleEpochError) this.lose();
      else this.stop({ reason: 'failed', error: SallyportError.from(error) });
      throw error;
    }
  }

  toolCall = (call: ToolCall, view: WorkspaceView) => this.#gate.toolCall(call, view);

  approve = (call: ToolCall, view: WorkspaceView) => this.#gate.approve(call, view);

  toolRefused = (id: string) => this.#gate.toolRefused(id);

  mayCall: RunHost['mayCall'] = (spentUsd) => this.#begun.then(() => this.#parts.mayCall(spentUsd));

  async batchEnded(turn: BrokerTurn): Promise<'continue' | 'stop'> {
    const { maxTurns, order } = this.#parts;
    this.#batches += 1;
    this.#count();
    const spentUsd = turn.spentUsd();
    if (this.#batches >= maxTurns) this.#stop ??= { reason: 'max_turns', limit: maxTurns };
    else if (order.budgetUsd !== null && spentUsd >= order.budgetUsd) this.#stop ??= { reason: 'max_budget' };
    else if ((await this.mayCall(spentUsd)) === 'no') this.#stop ??= { reason: 'max_budget' };
    return this.#stop ? 'stop' : 'continue';
  }

  /** Keeps how far the turn has come. A failure shows with the next event too, which stops the turn. */
  #count(): void {
    const counters = { batches: this.#batches, activeMs: this.#deadline.usedMs };
    this.#parts.log.count(counters).catch(() => undefined);
  }

  async ended(view: WorkspaceView): Promise<void> {
    this.#changed = await changesOf(this.#changes, view, this.#parts.order.ref, this.#parts);
  }

  /** The files that the turn may have changed, as it left them. */
  get files(): Changes['files'] {
    return this.#changed?.files ?? [];
  }
}
