import { setTimeout as delay } from 'node:timers/promises';
import type { SDKMessage } from '@anthropic-ai/claude-agent-sdk';
import type { LogEventBody } from '@sallyport/protocol';
import { SallyportError } from '../engine/errors.ts';
import type { BrokerTurn, Log, RunHost, RunOrder, ToolVerdict, WorkspaceView } from '../engine/ports.ts';
import type { StopCause } from './failures.ts';
import type { HookDuties, HookedCall } from './hooks.ts';
import { mismatchOf } from './options.ts';
import { Translator } from './translate.ts';

/** Longest wait for the text before a tool call to be recorded, in milliseconds. */
const textBeforeToolMs = 250;

/** One turn while it runs: passes on what Claude Code says, asks the host before every tool call, and holds the first reason to stop. */
export class Turn {
  /** Resolves when the turn is to be stopped. */
  readonly stopping: Promise<void>;
  readonly #order: RunOrder;
  readonly #host: RunHost;
  readonly #log: Log;
  readonly #translator: Translator;
  readonly #resolveStopping: () => void;
  readonly #allowed = new Set<string>();
  /** Tool calls that were seen in a message, with the message's id. */
  readonly #seen = new Map<string, string>();
  readonly #awaited = new Map<string, () => void>();
  readonly #unsettled = new Set<Promise<unknown>>();
  #stop: StopCause | null = null;
  #trusted = false;
  #batchStopped = false;

  constructor(order: RunOrder, host: RunHost, log: Log) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.stopping = promise;
    this.#resolveStopping = resolve;
    this.#order = order;
    this.#host = host;
    this.#log = log;
    this.#translator = new Translator(
      {
        delta: (block, text) => host.delta(block, text),
        record: (event) => this.#record(event),
        toolUse: (id, messageId) => this.#sawToolUse(id, messageId),
      },
      (id) => this.#allowed.has(id),
    );
  }

  get stop(): StopCause | null {
    return this.#stop;
  }

  /** True once the host said to stop after a batch of tool calls. */
  get batchStopped(): boolean {
    return this.#batchStopped;
  }

  get model(): string | null {
    return this.#translator.model;
  }

  /** Stops the turn because its caller wants it. */
  abort(): void {
    this.#stopFor({ kind: 'aborted' });
  }

  /** Stops the turn because something of ours failed. Of several causes the first counts. */
  fail(thrown: unknown): void {
    const error = SallyportError.from(thrown);
    this.#log.warn({ turn: this.#order.ref.turn, code: error.code, error }, 'a run cannot go on');
    this.#stopFor({ kind: 'broken', error });
  }

  /** Takes the next message of Claude Code. */
  take(message: SDKMessage): void {
    try {
      if (message.type === 'system' && message.subtype === 'init') {
        const mismatch = mismatchOf(message, this.#order.profile, this.#order.sdkSession);
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
    this.#translator.noted();
  }

  /** What the hooks of the process ask of this turn. */
  duties(view: () => WorkspaceView, brokerTurn: BrokerTurn): HookDuties {
    const { tools, outputSchema } = this.#order.profile;
    return {
      tools: new Set<string>(tools),
      structured: outputSchema !== null,
      toolCall: (call) => this.#toolCall(call, view()),
      batchEnded: () => this.#batchEnded(brokerTurn),
      failed: (error) => this.fail(error),
    };
  }

  async #toolCall(call: HookedCall, view: WorkspaceView): Promise<ToolVerdict> {
    const stopped: ToolVerdict = { behavior: 'deny', message: 'The run is being stopped.' };
    await this.#textBefore(call.id);
    if (this.#stop !== null) return stopped;
    if (!this.#trusted) throw new Error('a tool was called before Claude Code had said how it started');
    const messageId = this.#seen.get(call.id) ?? null;
    const deciding = Promise.try(() => this.#host.toolCall({ ...call, messageId }, view));
    // A decision that is still being committed belongs to the turn.
    this.#awaitAtEnd(deciding);
    const verdict = await deciding;
    this.#translator.noted();
    if (verdict.behavior !== 'allow') return verdict;
    this.#allowed.add(call.id);
    // Its start is committed, but nothing may start after a stop.
    return this.#stop === null ? verdict : stopped;
  }

  #batchEnded(brokerTurn: BrokerTurn): 'continue' | 'stop' {
    if (this.#stop === null && this.#host.batchEnded(brokerTurn) === 'continue') return 'continue';
    this.#batchStopped = true;
    return 'stop';
  }

  /** The hook of a call can be quicker than the messages before the call. */
  async #textBefore(id: string): Promise<void> {
    if (this.#seen.has(id)) return;
    const seen = Promise.withResolvers<void>();
    this.#awaited.set(id, seen.resolve);
    await Promise.race([seen.promise, delay(textBeforeToolMs, undefined, { ref: false })]);
    this.#awaited.delete(id);
  }

  #sawToolUse(id: string, messageId: string): void {
    this.#seen.set(id, messageId);
    this.#awaited.get(id)?.();
  }

  /** Claude Code has rules of its own, stricter than ours: what they stop was allowed but did not run. */
  #refused(id: string): void {
    if (this.#allowed.delete(id)) this.#keep(Promise.try(() => this.#host.toolRefused(id)));
  }

  #record(event: LogEventBody): void {
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

  #stopFor(cause: StopCause): void {
    this.#stop ??= cause;
    this.#resolveStopping();
  }
}
