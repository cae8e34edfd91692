import type { LogEventBody, PermissionDenial } from '@sallyport/protocol';
import { ChangeTracker, type Changes } from './changes.ts';
import type { Clock } from './clock.ts';
import { SallyportError } from './errors.ts';
import { outcomeOf, type Outcome, type StopCause } from './outcome.ts';
import { decideTool, type Decision, type PolicySettings } from './policy.ts';
import type {
  BrokerTurn,
  Log,
  RunEnd,
  RunHost,
  Runner,
  RunOrder,
  ToolCall,
  ToolVerdict,
  WorkspaceView,
} from './ports.ts';
import type { TurnLog } from './turn-log.ts';
import { placeOfCall } from './workspaces.ts';

/** What one turn is run with. */
export interface TurnParts {
  readonly runner: Runner;
  readonly log: TurnLog;
  readonly clock: Clock;
  readonly logger: Log;
  readonly policy: PolicySettings;
  readonly order: RunOrder;
  readonly requestId: string;
  readonly maxTurns: number;
  readonly timeoutSeconds: number;
}

const toClaude = {
  ask: 'Nobody can be asked for approval in this run, so the call was not made. Do what you can without it and say what is left to do.',
  deny: 'The call was not made. Do not try it again in another way.',
};

/** One turn while it runs: the engine's side of the run, its limits, and its end. */
export class Turn implements RunHost {
  readonly #parts: TurnParts;
  readonly #abort = new AbortController();
  readonly #startedAt: number;
  /** Names of the calls that were let run, by id. */
  readonly #started = new Map<string, string>();
  readonly #denials: PermissionDenial[] = [];
  readonly #changes = new ChangeTracker();
  #changed: Changes | null = null;
  #batches = 0;
  #stop: StopCause | null = null;

  constructor(parts: TurnParts) {
    this.#parts = parts;
    this.#startedAt = parts.clock.monotonic();
  }

  /** Stops the run. The first cause counts. */
  stop(cause: StopCause): void {
    this.#stop ??= cause;
    this.#abort.abort();
  }

  /** Runs the turn to its end and gives it; the end is not yet committed. */
  async run(): Promise<Outcome> {
    const { runner, order, timeoutSeconds, log } = this.#parts;
    const timer = setTimeout(() => this.stop({ reason: 'timeout', seconds: timeoutSeconds }), timeoutSeconds * 1000);
    let end: RunEnd | null = null;
    let thrown: unknown = null;
    try {
      await log.begin();
      end = await runner.run(order, this, this.#abort.signal);
    } catch (error) {
      thrown = error;
    } finally {
      clearTimeout(timer);
    }
    const { requestId, clock } = this.#parts;
    return outcomeOf({
      requestId,
      conversation: order.ref.conversation,
      profileModel: order.profile.model,
      maxTurns: this.#parts.maxTurns,
      seconds: (clock.monotonic() - this.#startedAt) / 1000,
      end,
      stop: this.#stop,
      thrown,
      toolsUsed: [...new Set(this.#started.values())],
      denials: this.#denials,
      changes: this.#changed,
    });
  }

  delta(block: 'text' | 'thinking', text: string): void {
    this.#parts.log.delta(block, text);
  }

  async record(event: LogEventBody): Promise<void> {
    try {
      await this.#parts.log.append(event);
    } catch (error) {
      this.stop({ reason: 'failed', error: SallyportError.from(error) });
      throw error;
    }
  }

  async toolCall(call: ToolCall, view: WorkspaceView): Promise<ToolVerdict> {
    const decision = await this.#decide(call, view);
    if (decision.decision !== 'allow') return await this.#refuse(call, decision);
    await this.#changes.before(call, view);
    if (this.#abort.signal.aborted) return { behavior: 'deny', message: 'The run is being stopped.' };
    await this.record({
      type: 'tool_start',
      tool_use_id: call.id,
      message_id: call.messageId,
      name: call.name,
      input: call.input,
      decided_by: decision.rule,
    });
    this.#started.set(call.id, call.name);
    return { behavior: 'allow' };
  }

  async #decide(call: ToolCall, view: WorkspaceView): Promise<Decision> {
    const { order, policy } = this.#parts;
    const place = await placeOfCall(view, call.name, call.input);
    return decideTool(order.profile, policy, { name: call.name, place });
  }

  async #refuse(call: ToolCall, decision: Exclude<Decision, { decision: 'allow' }>): Promise<ToolVerdict> {
    const { reason } = decision;
    this.#denials.push({ tool_use_id: call.id, tool: call.name, reason });
    await this.record({ type: 'tool_denied', tool_use_id: call.id, name: call.name, reason });
    return { behavior: 'deny', message: `${reason} ${toClaude[decision.decision]}` };
  }

  async toolRefused(id: string): Promise<void> {
    const tool = this.#started.get(id);
    if (tool === undefined || !this.#started.delete(id)) return;
    const reason = 'Claude Code itself does not run this unasked.';
    this.#denials.push({ tool_use_id: id, tool, reason });
    await this.record({ type: 'tool_denied', tool_use_id: id, name: tool, reason });
  }

  batchEnded(turn: BrokerTurn): 'continue' | 'stop' {
    const { maxTurns, order } = this.#parts;
    this.#batches += 1;
    if (this.#batches >= maxTurns) this.#stop ??= { reason: 'max_turns', limit: maxTurns };
    else if (order.budgetUsd !== null && turn.spentUsd() >= order.budgetUsd) this.#stop ??= { reason: 'max_budget' };
    return this.#stop ? 'stop' : 'continue';
  }

  async ended(view: WorkspaceView): Promise<void> {
    try {
      this.#changed = await this.#changes.after(view);
    } catch (error) {
      this.#parts.logger.warn({ turn: this.#parts.order.ref.turn, err: error }, 'changes could not be read');
      this.#changed = { diff: null, truncated: true, paths: [] };
    }
  }
}
