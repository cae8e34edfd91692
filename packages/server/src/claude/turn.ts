import type { SDKMessage } from '@anthropic-ai/claude-agent-sdk';
import type { LogEventBody } from '@sallyport/protocol';
import { SallyportError } from '../engine/errors.ts';
import type {
  BrokerTurn,
  CallVerdict,
  Log,
  Recovery,
  RunHost,
  RunOrder,
  ToolCall,
  WorkspaceView,
} from '../engine/ports.ts';
import type { StopCause } from './failures.ts';
import type { HookDuties } from './hooks.ts';
import { mismatchOf } from './options.ts';
import { ToolGate } from './tool-gate.ts';
import { Translator } from './translate.ts';

/** One turn while it runs: passes on what Claude Code says and what its hooks ask, and holds the reason to stop. */
export class Turn {
  /** Resolves when the turn is to be stopped. */
  readonly stopping: Promise<void>;
  readonly #order: RunOrder;
  readonly #session: string;
  readonly #host: RunHost;
  readonly #log: Log;
  readonly #translator: Translator;
  readonly #gate: ToolGate;
  readonly #resolveStopping: () => void;
  readonly #outcomes = new Set<string>();
  readonly #unsettled = new Set<Promise<unknown>>();
  #stop: StopCause | null = null;
  #trusted = false;
  #touched = false;
  #left = false;
  #batchStopped = false;

  /** `session` is Claude Code's own id of the session that the turn runs in. */
  constructor(order: RunOrder, host: RunHost, log: Log, session: string = order.sdkSession) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.stopping = promise;
    this.#resolveStopping = resolve;
    this.#order = order;
    this.#session = session;
    this.#host = host;
    this.#log = log;
    this.#translator = new Translator(
      {
        delta: (block, text) => this.#delta(block, text),
        record: (event) => this.#record(event),
        toolUse: (id, messageId) => this.#gate.sawCall(id, messageId),
      },
      // One id is one call: it has one outcome.
      (id) => this.#gate.isAllowed(id) && !this.#outcomes.has(id),
    );
    this.#gate = new ToolGate({
      host,
      stopped: () => this.#stop !== null,
      stopping: promise,
      trusted: () => this.#trusted,
      noted: () => {
        this.#touched = true;
      },
      awaitAtEnd: (work) => this.#awaitAtEnd(work),
      free: (toolUseId) => this.#stopFor({ kind: 'freed', toolUseId }),
    });
  }

  get stop(): StopCause | null {
    return this.#stop;
  }

  /** True once the host said to stop after a batch of tool calls. */
  get batchStopped(): boolean {
    return this.#batchStopped;
  }

  /** True once the host was told or asked anything. */
  get touched(): boolean {
    return this.#touched;
  }

  /** The calls that had their outcome in this process. */
  get outcomes(): ReadonlySet<string> {
    return this.#outcomes;
  }

  /** True when Bash was let run. */
  get ranBash(): boolean {
    return this.#gate.ranBash;
  }

  /** Resolves when Claude Code makes the call that it was to make. */
  get recovered(): Promise<void> {
    return this.#gate.recovered;
  }

  get model(): string | null {
    return this.#translator.model;
  }

  /** Stops the turn because its caller wants it. */
  abort(): void {
    this.#stopFor({ kind: 'aborted' });
  }

  /** Stops the turn because Claude Code does not go on with it. */
  abandon(): void {
    this.#stopFor({ kind: 'abandoned' });
  }

  /** Stops the turn because something of ours failed. */
  fail(thrown: unknown): void {
    const error = SallyportError.from(thrown);
    this.#log.warn({ turn: this.#order.ref.turn, code: error.code, error }, 'a run cannot go on');
    this.#stopFor({ kind: 'broken', error });
  }

  /** Nothing that Claude Code says from now on counts: the turn goes on elsewhere. */
  leave(): void {
    this.#left = true;
  }

  /** Takes the next message of Claude Code. */
  take(message: SDKMessage): void {
    if (this.#left) return;
    try {
      if (message.type === 'system' && message.subtype === 'init') {
        const mismatch = mismatchOf(message, this.#order.profile, this.#session);
        if (mismatch !== null) throw new Error(`Claude Code did not start as it was told to: ${mismatch}`);
        this.#trusted = true;
      }
      this.#translator.take(message);
      if (message.type === 'result') for (const { tool_use_id: id } of message.permission_denials) this.#refused(id);
    } catch (error) {
      this.fail(error);
    }
  }

  /** To be called when no message comes any more: records what is left of the last one. */
  finish(): void {
    this.#translator.finish();
  }

  /** Resolves when everything recorded or decided so far is committed or has failed. */
  async committed(): Promise<void> {
    await Promise.all(this.#unsettled);
  }

  /** A model call is tried again. */
  retried(attempt: number, reason: string): void {
    this.#record({ type: 'retry', attempt, reason });
  }

  /** Asked before every call of the model. */
  mayCall(spentUsd: number): Promise<CallVerdict> {
    return this.#host.mayCall(spentUsd);
  }

  /** What the hooks of the process ask of this turn. */
  duties(view: () => WorkspaceView, brokerTurn: BrokerTurn): HookDuties {
    const { tools, outputSchema } = this.#order.profile;
    return {
      tools: new Set<string>(tools),
      structured: outputSchema !== null,
      toolCall: async (call) => await this.#gate.decide(call, view()),
      permit: async (call) => await this.#gate.permit(call, view()),
      batchEnded: () => this.#batchEnded(brokerTurn),
      failed: (error) => {
        // Killing a process breaks what it was about to do.
        if (this.#stop?.kind !== 'freed') this.fail(error);
      },
    };
  }

  /**
   * Asks about the call that a turn is to go on with, as long as it has no process, and says what it goes on with then.
   * Null when it is to be stopped instead.
   */
  async settleCall(call: ToolCall, view: WorkspaceView): Promise<Recovery | null> {
    const { recovery } = this.#order;
    try {
      const answer = await Promise.race([this.#gate.settle(call, view), this.stopping]);
      if (this.#stop !== null || answer === undefined || recovery === null) return null;
      if (answer.behavior === 'allow') return { ...recovery, call: { toolUseId: call.id, input: answer.input } };
      const refusal = { toolUseId: call.id, text: answer.message, ok: false };
      return { outcomes: [...recovery.outcomes, refusal], call: null };
    } catch (error) {
      this.fail(error);
      return null;
    }
  }

  async #batchEnded(brokerTurn: BrokerTurn): Promise<'continue' | 'stop'> {
    if (this.#stop === null && (await this.#host.batchEnded(brokerTurn)) === 'continue') return 'continue';
    this.#batchStopped = true;
    return 'stop';
  }

  /** Claude Code has rules of its own, stricter than ours: what they stop was allowed but did not run. */
  #refused(id: string): void {
    if (this.#gate.refused(id)) this.#keep(Promise.try(() => this.#host.toolRefused(id)));
  }

  #delta(block: 'text' | 'thinking', text: string): void {
    this.#touched = true;
    this.#host.delta(block, text);
  }

  #record(event: LogEventBody): void {
    this.#touched = true;
    if (event.type === 'tool_end') {
      this.#outcomes.add(event.tool_use_id);
      this.#gate.sawOutcome(event.tool_use_id);
    }
    this.#keep(Promise.try(() => this.#host.record(event)));
  }

  #keep(work: Promise<void>): void {
    this.#awaitAtEnd(work);
    work.catch((error: unknown) => this.fail(error));
  }

  #awaitAtEnd(work: Promise<unknown>): void {
    const settled = Promise.allSettled([work]);
    this.#unsettled.add(settled);
    void settled.then(() => this.#unsettled.delete(settled));
  }

  /** Of several causes the first counts, but any other counts more than that the process is not needed for now. */
  #stopFor(cause: StopCause): void {
    if (this.#stop === null || this.#stop.kind === 'freed') this.#stop = cause;
    this.#resolveStopping();
  }
}
