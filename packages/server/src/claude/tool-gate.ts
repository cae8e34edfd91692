import { setTimeout as delay } from 'node:timers/promises';
import type { ApprovalVerdict, RunHost, ToolCall, ToolVerdict, WorkspaceView } from '../engine/ports.ts';
import { isInput, type CallAnswer, type HookedCall } from './hooks.ts';

/** Longest wait for the text before a tool call to be recorded, in milliseconds. */
const textBeforeToolMs = 250;
/** How long after a stop the end waits for a human's decision that is being committed, in milliseconds. */
const decisionMs = 1_000;

/** What the gate takes from its turn. */
export interface GateParts {
  readonly host: RunHost;
  /** True once the turn is to be stopped. */
  readonly stopped: () => boolean;
  readonly stopping: Promise<void>;
  /** True once Claude Code has said how it started, and that was right. */
  readonly trusted: () => boolean;
  /** The host may have recorded something. */
  readonly noted: () => void;
  /** Has the end of the turn wait for work that may fail. */
  readonly awaitAtEnd: (work: Promise<unknown>) => void;
  /** Nobody has decided about the call, and the process is not to be held any longer. */
  readonly free: (toolUseId: string) => void;
}

const stopped = { behavior: 'deny', message: 'The run is being stopped.' } as const;
/** Claude Code has rules of its own, stricter than ours: what only they ask about, nobody is asked. */
const unasked = {
  behavior: 'deny',
  message: 'This call needs the permission of a human, and nobody is asked about it in this run. Do without it.',
} as const;

/** A call, and what the host said of it. */
interface Known {
  readonly call: ToolCall;
  readonly verdict: ToolVerdict;
}

/** Decides about the tool calls of one turn, by the host, a human whom the host asks, and what was decided before. */
export class ToolGate {
  /** Resolves when Claude Code makes the call that the turn is to go on with. */
  readonly recovered: Promise<void>;
  readonly #parts: GateParts;
  readonly #resolveRecovered: () => void;
  readonly #allowed = new Set<string>();
  /** Tool calls that were seen in a message, with the message's id. */
  readonly #seen = new Map<string, string>();
  readonly #awaited = new Map<string, () => void>();
  /** What the host said of a call when it was last asked. */
  readonly #known = new Map<string, Known>();
  /** The call that was allowed before this process, until its outcome is there. */
  #due: HookedCall | null = null;
  #ranBash = false;

  constructor(parts: GateParts) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.recovered = promise;
    this.#resolveRecovered = resolve;
    this.#parts = parts;
  }

  /** True when Bash was let run. */
  get ranBash(): boolean {
    return this.#ranBash;
  }

  isAllowed(id: string): boolean {
    return this.#allowed.has(id);
  }

  /** To be called when a call did not run. True when it was allowed, and it was not we who refused one of this id. */
  refused(id: string): boolean {
    return this.#known.get(id)?.verdict.behavior !== 'deny' && this.#allowed.delete(id);
  }

  /** To be called when a message makes a call. */
  sawCall(id: string, messageId: string): void {
    this.#seen.set(id, messageId);
    this.#awaited.get(id)?.();
  }

  /** To be called when a call has its outcome. */
  sawOutcome(id: string): void {
    if (this.#due?.id !== id) return;
    this.#due = null;
    this.#resolveRecovered();
  }

  /** What the hook answers to a call. Rejects when it cannot be decided. */
  async decide(call: HookedCall, view: WorkspaceView): Promise<CallAnswer | { readonly behavior: 'ask' }> {
    const due = this.#dueAnswer(call);
    if (due !== null) return due;
    const { verdict } = await this.#ask(call, view);
    // The start of the call may be committed, but nothing may start after a stop.
    return verdict.behavior !== 'deny' && this.#parts.stopped() ? stopped : verdict;
  }

  /**
   * What is answered when Claude Code asks for a permission. Never resolves when the process is to be freed: any answer
   * would be stored as the outcome of the call.
   */
  async permit(call: HookedCall, view: WorkspaceView): Promise<CallAnswer> {
    const due = this.#dueAnswer(call);
    if (due !== null) return due;
    if (this.#parts.stopped()) return stopped;
    // The hook may not have been asked about it.
    const known = this.#known.get(call.id) ?? (await this.#ask(call, view));
    if (known.call.name !== call.name) throw new Error(`${call.name} asks for a permission under another call's id`);
    if (known.verdict.behavior === 'deny') return known.verdict;
    if (known.verdict.behavior !== 'ask') return unasked;
    // Approved is what the host was told of, and only that runs.
    const answer = await this.#approve(known.call, view);
    if (answer.behavior === 'free') return await this.#free(call.id);
    return this.#parts.stopped() ? stopped : answer;
  }

  /** Asks about a call that a new process is to make at once. Never resolves when there is to be no process. */
  async settle(call: ToolCall, view: WorkspaceView): Promise<Exclude<ApprovalVerdict, { behavior: 'free' }>> {
    const answer = await this.#approve(call, view);
    if (answer.behavior === 'free') return await this.#free(call.id);
    if (answer.behavior === 'allow') this.#due = { ...call, input: answer.input };
    return answer;
  }

  async #free(id: string): Promise<never> {
    this.#parts.free(id);
    return await new Promise<never>(() => {});
  }

  #dueAnswer({ id }: HookedCall): CallAnswer | null {
    if (this.#due?.id !== id) return null;
    this.#resolveRecovered();
    return this.#parts.stopped() ? stopped : { behavior: 'allow', input: this.#due.input };
  }

  async #ask(call: HookedCall, view: WorkspaceView): Promise<Known> {
    const { host, trusted, noted, awaitAtEnd } = this.#parts;
    await this.#textBefore(call.id);
    const asked: ToolCall = { ...call, messageId: this.#seen.get(call.id) ?? null };
    if (this.#parts.stopped()) return { call: asked, verdict: stopped };
    if (!trusted()) throw new Error('a tool was called before Claude Code had said how it started');
    const deciding = Promise.try(() => host.toolCall(asked, view));
    // A decision that is still being committed belongs to the turn.
    awaitAtEnd(deciding);
    const verdict = await deciding;
    noted();
    const known: Known = { call: asked, verdict };
    this.#known.set(call.id, known);
    if (verdict.behavior === 'allow') this.#allow(asked);
    return known;
  }

  async #approve(call: ToolCall, view: WorkspaceView): Promise<ApprovalVerdict> {
    const { host, stopping, noted, awaitAtEnd } = this.#parts;
    const deciding = Promise.try(() => host.approve(call, view));
    // A human is not waited for after a stop.
    const late = stopping.then(() => delay(decisionMs, undefined, { ref: false }));
    awaitAtEnd(Promise.race([deciding, late]));
    const verdict = await deciding;
    noted();
    if (!isVerdict(verdict)) throw new Error('what a human is said to have decided is no decision');
    if (verdict.behavior === 'allow') this.#allow(call);
    return verdict;
  }

  #allow({ id, name }: ToolCall): void {
    this.#allowed.add(id);
    if (name === 'Bash') this.#ranBash = true;
  }

  /** The hook of a call can be quicker than the messages before the call. */
  async #textBefore(id: string): Promise<void> {
    if (this.#seen.has(id)) return;
    const seen = Promise.withResolvers<void>();
    this.#awaited.set(id, seen.resolve);
    await Promise.race([seen.promise, delay(textBeforeToolMs, undefined, { ref: false })]);
    this.#awaited.delete(id);
  }
}

function isVerdict(verdict: ApprovalVerdict): boolean {
  if (verdict.behavior === 'allow') return isInput(verdict.input);
  return verdict.behavior === 'free' || (verdict.behavior === 'deny' && typeof verdict.message === 'string');
}
