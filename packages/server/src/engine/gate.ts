import type { PermissionDenial } from '@sallyport/protocol';
import { setTimeout as delay } from 'node:timers/promises';
import type { ApprovalDesk } from './approval-desk.ts';
import { newApproval, requestedBody, toldToClaude } from './approvals.ts';
import type { ChangeTracker } from './changes.ts';
import type { Clock } from './clock.ts';
import { decideTool, type Decision, type PolicySettings } from './policy.ts';
import type {
  Approval,
  ApprovalStore,
  ApprovalVerdict,
  ImageStore,
  RunOrder,
  ToolCall,
  ToolVerdict,
  WorkspaceView,
} from './ports.ts';
import { previewOf } from './preview.ts';
import { canonicalHash, isQuestion, ruleOf } from './tool-inputs.ts';
import type { TurnLog } from './turn-log.ts';
import { placeOfCall } from './workspaces.ts';

/** What the gate of one turn is made of. */
export interface GateParts {
  readonly log: TurnLog;
  readonly clock: Clock;
  readonly policy: PolicySettings;
  readonly approvals: ApprovalStore;
  readonly images: ImageStore;
  readonly desk: ApprovalDesk;
  readonly changes: ChangeTracker;
  readonly order: RunOrder;
  /** Seconds that a process is held for a human. */
  readonly holdSeconds: number;
  readonly approvalTtlSeconds: number;
  /** Aborted when the turn is being stopped. */
  readonly stopped: AbortSignal;
  /** Aborted when processes that wait are to be freed, because the service stops. */
  readonly freeing: AbortSignal;
  /** Told when the turn begins and ends to wait for a human. */
  readonly waits: (waiting: boolean) => void;
}

const toClaude = {
  deny: 'The call was not made. Do not try it again in another way.',
  human: 'The call was not made.',
  again: 'This call was let run already. Look at what it did before you go on.',
};
const stopping: ToolVerdict = { behavior: 'deny', message: 'The run is being stopped.' };

/** Decides every tool call of a turn: by policy, by the rules of the conversation, or by a human. */
export class Gate {
  /** Names of the calls that were let run, by id. */
  readonly started = new Map<string, string>();
  readonly denials: PermissionDenial[] = [];
  readonly #parts: GateParts;
  /** Questions to humans, by call: a call that is asked about twice is one question. */
  readonly #asked = new Map<string, Promise<ApprovalVerdict>>();
  #pending: Approval | null = null;

  constructor(parts: GateParts) {
    this.#parts = parts;
  }

  /** The approval that a human has still to decide. */
  get pending(): Approval | null {
    return this.#pending;
  }

  /** Takes over what an earlier process of the turn has started. */
  startedBefore(calls: Iterable<readonly [string, string]>): void {
    for (const [id, name] of calls) this.started.set(id, name);
  }

  /** A process begins: what was asked for the one before is asked anew. */
  newProcess(): void {
    this.#asked.clear();
  }

  async toolCall(call: ToolCall, view: WorkspaceView): Promise<ToolVerdict> {
    // One id is one call: an upstream that repeats an id gets nothing run twice.
    if (this.started.has(call.id)) return await this.#refuse(call, 'It was made before.', toClaude.again);
    const decision = await this.#decide(call, view);
    if (decision.decision === 'deny') return await this.#refuse(call, decision.reason, toClaude.deny);
    if (decision.decision === 'allow') return await this.#start(call, view, decision.rule);
    const rule = ruleOf(call.name, call.input);
    if (rule === null) return { behavior: 'ask' };
    const { tenant, conversation } = this.#parts.order.ref;
    const rules = await this.#parts.approvals.rules(tenant, conversation);
    return rules.includes(rule) ? await this.#start(call, view, `conversation:${rule}`) : { behavior: 'ask' };
  }

  /** Asks a human, once for each call. */
  approve(call: ToolCall, view: WorkspaceView): Promise<ApprovalVerdict> {
    const asked = this.#asked.get(call.id) ?? this.#approve(call, view);
    this.#asked.set(call.id, asked);
    return asked;
  }

  async toolRefused(id: string): Promise<void> {
    const tool = this.started.get(id);
    if (tool === undefined || !this.started.delete(id)) return;
    const reason = 'Claude Code itself does not run this unasked.';
    this.denials.push({ tool_use_id: id, tool, reason });
    await this.#parts.log.append({ type: 'tool_denied', tool_use_id: id, name: tool, reason });
  }

  /** Resolves when the approval that is pending has been settled; at once when none is. Null: the turn is being stopped. */
  async settled(): Promise<Approval | null> {
    const { desk, stopped } = this.#parts;
    return this.#pending && (await desk.settled(this.#pending, stopped));
  }

  /** Notes an approval of the turn that is pending, from before. */
  waitFor(approval: Approval): void {
    this.#pending = approval;
    this.#parts.waits(true);
  }

  /** Writes down what became of the approval that the turn waited for. */
  async note(approval: Approval): Promise<void> {
    const { id, toolUseId, status, decidedBy, decision } = approval;
    if (status === 'pending') throw new Error('the approval is not settled');
    this.#pending = null;
    this.#parts.waits(false);
    await this.#parts.log.append(
      {
        type: 'approval_decided',
        approval_id: id,
        tool_use_id: toolUseId,
        status,
        decided_by: decidedBy ?? 'service',
        message: decision?.message ?? null,
      },
      'running',
    );
  }

  async #decide(call: ToolCall, view: WorkspaceView): Promise<Decision> {
    const { order, policy } = this.#parts;
    const place = await placeOfCall(view, call.name, call.input);
    return decideTool(order.profile, policy, { name: call.name, place });
  }

  /** Commits the start of a call. Nothing runs without it. */
  async #start(call: ToolCall, view: WorkspaceView, rule: string): Promise<ToolVerdict> {
    const { changes, images, order, log, stopped } = this.#parts;
    for (const { path, content } of await changes.before(call, view)) await images.before(order.ref, path, content);
    if (stopped.aborted) return stopping;
    await log.append({
      type: 'tool_start',
      tool_use_id: call.id,
      message_id: call.messageId,
      name: call.name,
      input: call.input,
      decided_by: rule,
    });
    this.started.set(call.id, call.name);
    return { behavior: 'allow' };
  }

  async #refuse(call: ToolCall, reason: string, told: string): Promise<ToolVerdict & { behavior: 'deny' }> {
    this.denials.push({ tool_use_id: call.id, tool: call.name, reason });
    await this.#parts.log.append({ type: 'tool_denied', tool_use_id: call.id, name: call.name, reason });
    return { behavior: 'deny', message: `${reason} ${told}` };
  }

  async #approve(call: ToolCall, view: WorkspaceView): Promise<ApprovalVerdict> {
    const { stopped, desk, order } = this.#parts;
    const decision = await this.#decide(call, view);
    if (decision.decision === 'deny') return await this.#refuse(call, decision.reason, toClaude.deny);
    const known = await this.#known(call);
    const approval = known ?? (await this.#request(call, view, decision));
    let settled: Approval | null = approval;
    if (approval.status === 'pending') {
      settled = await Promise.race([desk.settled(approval, stopped), this.#hold()]);
      if (settled === null)
        return stopped.aborted ? { behavior: 'deny', message: 'The run is being stopped.' } : { behavior: 'free' };
    }
    if (this.#pending?.id === settled.id) await this.note(settled);
    if (order.ref.turn !== settled.turn) throw new Error('an approval of another turn');
    return await this.#act(call, view, settled);
  }

  /** The approval that an earlier process of the turn asked for: of this very call, or of one that is equal and was not made. */
  async #known(call: ToolCall): Promise<Approval | null> {
    const { tenant, turn } = this.#parts.order.ref;
    const hash = canonicalHash(call.input);
    const all = await this.#parts.approvals.ofTurn(tenant, turn);
    const same = all.find(({ toolUseId }) => toolUseId === call.id);
    if (same && same.inputHash !== hash && canonicalHash(same.decision?.input) !== hash) {
      throw new Error('an approval was asked for another input of this call');
    }
    if (same) return same;
    const equal = ({ tool, inputHash, toolUseId, status }: Approval) =>
      status === 'allowed' && tool === call.name && inputHash === hash && !this.started.has(toolUseId);
    return all.find(equal) ?? null;
  }

  async #request(call: ToolCall, view: WorkspaceView, decision: Decision): Promise<Approval> {
    const { approvals, clock, log, order, approvalTtlSeconds } = this.#parts;
    const approval = newApproval({
      call,
      ref: order.ref,
      key: order.key,
      reason: decision.decision === 'ask' ? decision.reason : 'Claude Code does not run this unasked.',
      diff: await previewOf(call, view),
      at: clock.now(),
      ttlSeconds: approvalTtlSeconds,
    });
    const stored = await log.commit(async () => {
      const requested = await approvals.request(order.ref, approval, requestedBody(approval));
      return { event: requested.event, value: requested.approval };
    });
    if (stored.status === 'pending') this.waitFor(stored);
    return stored;
  }

  /** Null when the process is not to be held any longer. */
  async #hold(): Promise<null> {
    const { holdSeconds, freeing, stopped } = this.#parts;
    const signal = AbortSignal.any([freeing, stopped]);
    await delay(holdSeconds * 1000, undefined, { signal, ref: false }).catch(() => undefined);
    // Of two that happen together the stop counts, which the other side of the race tells.
    if (stopped.aborted) await new Promise<never>(() => {});
    return null;
  }

  /** Acts on a decision: only `allowed`, and only with an input that the policy lets pass, makes the call. */
  async #act(call: ToolCall, view: WorkspaceView, approval: Approval): Promise<ApprovalVerdict> {
    if (approval.status !== 'allowed') {
      return await this.#refuse(call, toldToClaude(approval), toClaude.human);
    }
    const input = approval.decision?.input ?? call.input;
    const made = { ...call, input };
    if (input !== call.input && !isQuestion(call.name)) {
      const decision = await this.#decide(made, view);
      if (decision.decision === 'deny') return await this.#refuse(call, decision.reason, toClaude.deny);
    }
    const verdict = await this.#start(made, view, `human:${approval.decidedBy}`);
    if (verdict.behavior === 'deny') return verdict;
    return { behavior: 'allow', input };
  }
}
