import type { QueryRequest, StreamItem } from '@sallyport/protocol';
import { historyOf, infoOf, listOf, logOf, statusOf, visible } from './conversations.ts';
import type { Engine, EngineParts, EventsRequest, OwnEngine, RunningTurn, TurnOutcome } from './engine.ts';
import { SallyportError } from './errors.ts';
import { follow } from './follow.ts';
import { LiveLogs } from './live.ts';
import { messagesOf } from './messages.ts';
import type { StopCause } from './outcome.ts';
import { checkOutputSchema } from './output-schema.ts';
import { decideProfile } from './policy.ts';
import type { Profile, RunOrder, StoredConversation } from './ports.ts';
import type { Principal } from './principal.ts';
import { TurnLog } from './turn-log.ts';
import { Turn } from './turn.ts';
import { acceptFirst, acceptNext, endAbandoned, endOf, eventsOf, type AcceptedTurn } from './turns.ts';
import { resolveProject } from './workspaces.ts';

/** What of a turn is not already in its acceptance. */
type Launch = Pick<RunOrder, 'prompt' | 'files' | 'resume' | 'keepFiles'> & { readonly requestId: string };

interface Running {
  readonly turn: Turn;
  readonly ended: Promise<TurnOutcome>;
}

const unpriced = new SallyportError('validation_failed', {
  issues: [
    {
      loc: ['body', 'max_budget_usd'],
      msg: 'cannot be kept: the price of the model is not known here',
      type: 'value_error',
    },
  ],
});

const keyOf = (tenant: string, conversation: string): string => JSON.stringify([tenant, conversation]);

/** Ends the turns that an earlier process of the service left open, then serves. */
export async function createEngine(parts: EngineParts): Promise<OwnEngine> {
  await endAbandoned(parts);
  return new OneNodeEngine(parts);
}

class OneNodeEngine implements OwnEngine {
  readonly #parts: EngineParts;
  readonly #logs = new LiveLogs();
  /** Turns that run, by conversation: each has one at most. */
  readonly #running = new Map<string, Running>();
  /** Conversations that are being deleted take no turn. */
  readonly #deleting = new Set<string>();
  #draining = false;
  #closing = false;

  constructor(parts: EngineParts) {
    this.#parts = parts;
  }

  startQuery: Engine['startQuery'] = async (principal, request, { requestId, signal }) => {
    const profile = await this.#profileOf(principal, request);
    const accepted = await acceptFirst(this.#parts, principal, request, { profile, kind: 'query', id: undefined });
    const files = request.files ?? [];
    const running = this.#launch(accepted, {
      requestId,
      prompt: request.prompt,
      files,
      resume: false,
      keepFiles: false,
    });
    const leave = () => running.turn.stop({ reason: this.#draining ? 'shutdown' : 'client_left' });
    signal.addEventListener('abort', leave, { once: true });
    if (signal.aborted) leave();
    void running.ended.then(() => signal.removeEventListener('abort', leave));
    return this.#runningTurn(accepted, running);
  };

  startConversation: Engine['startConversation'] = async (principal, request, { requestId, sessionId }) => {
    const profile = await this.#profileOf(principal, request);
    const chosen = { profile, kind: 'conversation' as const, id: sessionId };
    const accepted = await acceptFirst(this.#parts, principal, request, chosen);
    const files = request.files ?? [];
    const running = this.#launch(accepted, {
      requestId,
      prompt: request.prompt,
      files,
      resume: false,
      keepFiles: true,
    });
    return this.#runningTurn(accepted, running);
  };

  continueConversation: Engine['continueConversation'] = async (principal, id, message, { requestId }) => {
    const found = await visible(this.#parts, principal, id);
    if (this.#draining) throw new SallyportError('not_ready');
    if (this.#deleting.has(keyOf(found.tenant, id))) throw new SallyportError('conversation_not_found');
    if (statusOf(this.#parts, found) === 'ended') throw new SallyportError('conversation_ended');
    await this.#stillAllowed(found);
    const accepted = await acceptNext(this.#parts, found, message);
    if (accepted === null) {
      await visible(this.#parts, principal, id);
      throw new SallyportError('conversation_busy', { retryAfter: 1 });
    }
    const running = this.#launch(accepted, { requestId, prompt: message, files: [], resume: true, keepFiles: true });
    return this.#runningTurn(accepted, running);
  };

  conversation: Engine['conversation'] = (principal, id) => infoOf(this.#parts, principal, id);

  conversations: Engine['conversations'] = (principal, request) => listOf(this.#parts, principal, request);

  messages: Engine['messages'] = (principal, id) => historyOf(this.#parts, principal, id);

  events: Engine['events'] = async (principal, id, request) => {
    const { tenant, lastSeq } = await visible(this.#parts, principal, id);
    if (request.after.seq > lastSeq) throw new SallyportError('bad_cursor');
    return this.#follow(tenant, id, request);
  };

  interrupt: Engine['interrupt'] = async (principal, id) => {
    const { tenant } = await visible(this.#parts, principal, id);
    return await this.#stop(tenant, id, { reason: 'interrupt' });
  };

  deleteConversation: Engine['deleteConversation'] = async (principal, id) => {
    const { tenant, sdkSession } = await visible(this.#parts, principal, id);
    const key = keyOf(tenant, id);
    this.#deleting.add(key);
    try {
      await this.#stop(tenant, id, { reason: 'interrupt' });
      await this.#parts.transcripts.delete(tenant, sdkSession);
      await this.#parts.runner.forget(tenant, id);
      await this.#parts.conversations.delete(tenant, id);
      this.#logs.end(tenant, id);
    } finally {
      this.#deleting.delete(key);
    }
  };

  models: Engine['models'] = () => {
    const { models, defaultModel } = this.#parts.policy;
    return { models: [...models], default: defaultModel };
  };

  drain(): void {
    this.#draining = true;
  }

  close: Engine['close'] = async () => {
    this.#draining = true;
    this.#closing = true;
    const running = [...this.#running.values()];
    for (const { turn } of running) turn.stop({ reason: 'shutdown' });
    await Promise.all(running.map(({ ended }) => ended));
  };

  async #profileOf(principal: Principal, request: QueryRequest): Promise<Profile> {
    if (this.#draining) throw new SallyportError('not_ready');
    if (request.output_schema) checkOutputSchema(request.output_schema);
    const { workspaceRoots, isProtected, policy } = this.#parts;
    const path = request.project_path;
    const projectPath = path === undefined ? null : await resolveProject(path, workspaceRoots, isProtected);
    const profile = decideProfile(principal, request, projectPath, policy);
    if (request.max_budget_usd !== undefined && !this.#parts.isPriced(profile.model)) throw unpriced;
    return profile;
  }

  /** What a conversation was allowed at its start may have been withdrawn since. */
  async #stillAllowed({ profile }: StoredConversation): Promise<void> {
    const { workspaceRoots, isProtected, policy } = this.#parts;
    if (!policy.models.includes(profile.model)) throw new SallyportError('model_not_allowed');
    if (profile.projectPath !== null) await resolveProject(profile.projectPath, workspaceRoots, isProtected);
  }

  #launch(accepted: AcceptedTurn, { requestId, ...launch }: Launch): Running {
    const { ref, conversation, messageUuid } = accepted;
    const { profile, limits, sdkSession, key } = conversation;
    const log = new TurnLog(
      this.#parts.turns,
      this.#parts.clock,
      ref,
      this.#logs.acquire(ref.tenant, ref.conversation),
    );
    const turn = new Turn({
      ...this.#parts,
      log,
      requestId,
      maxTurns: limits.maxTurns,
      timeoutSeconds: limits.timeoutSeconds,
      order: { ...launch, ref, key, profile, sdkSession, messageUuid, ...limits },
    });
    if (this.#closing) turn.stop({ reason: 'shutdown' });
    const name = keyOf(ref.tenant, ref.conversation);
    const ended = endOf(this.#parts, accepted, log, turn).finally(() => {
      this.#running.delete(name);
      this.#logs.release(ref.tenant, ref.conversation);
    });
    const running = { turn, ended };
    this.#running.set(name, running);
    return running;
  }

  #runningTurn(accepted: AcceptedTurn, { ended }: Running): RunningTurn {
    const { tenant, conversation } = accepted.ref;
    return {
      conversation,
      ended,
      events: () => eventsOf(this.#parts, this.#logs, accepted),
      totalMessages: async () => {
        await ended;
        return messagesOf(await logOf(this.#parts, tenant, conversation)).length;
      },
    };
  }

  async #stop(tenant: string, conversation: string, cause: StopCause): Promise<boolean> {
    const running = this.#running.get(keyOf(tenant, conversation));
    if (!running) return false;
    running.turn.stop(cause);
    await running.ended;
    return true;
  }

  async *#follow(tenant: string, id: string, request: EventsRequest): AsyncGenerator<StreamItem> {
    const live = this.#logs.acquire(tenant, id);
    const { after, follow: wait, signal } = request;
    try {
      const isLast = () => false;
      yield* follow({ store: this.#parts.turns, tenant, conversation: id, live, wait, isLast, signal }, after);
    } finally {
      this.#logs.release(tenant, id);
    }
  }
}
