import { Readable } from 'node:stream';
import type {
  ApprovalDecisionRequest,
  ApprovalInfo,
  ClaudeMessage,
  ConversationDiff,
  ConversationInfo,
  QueryRequest,
  RunResult,
  StreamItem,
} from '@sallyport/protocol';
import type {
  ApprovalsRequest,
  Engine,
  EventsRequest,
  ListRequest,
  RunContext,
  RunningTurn,
  TurnOutcome,
} from '../engine/engine.ts';
import { SallyportError } from '../engine/errors.ts';
import { feedOf, type Feed } from '../engine/feed.ts';
import type { WorkspaceFile } from '../engine/ports.ts';
import type { Principal } from '../engine/principal.ts';
import { approval, info, runResult, summary } from './samples-support.ts';

export { runResult };

/** An engine for the tests of the transport, that plays what a test says. */

const common = { content: '', tools_used: [], is_complete: false, error: null };

export const textItem = (seq: number, content: string): StreamItem => ({
  cursor: { seq, chars: content.length },
  event: { ...common, role: 'assistant', type: 'text_delta', content },
});

export const retryItem = (seq: number): StreamItem => ({
  cursor: { seq, chars: 0 },
  event: { ...common, role: 'system', type: 'retry', attempt: 1, reason: 'overloaded' },
});

export function resultItem(seq: number, outcome: TurnOutcome): StreamItem {
  const code = outcome.error?.code ?? null;
  return {
    cursor: { seq, chars: 0 },
    event: { ...common, ...outcome.result, role: 'system', type: 'result', code, is_complete: true },
  };
}

export function outcomeOf(changes: Partial<RunResult> = {}, error: TurnOutcome['error'] = null): TurnOutcome {
  const timestamp = '2030-01-01T00:00:00.000Z';
  const message = { timestamp, tools_used: [], error: null };
  return {
    result: runResult(changes),
    messages: [
      { ...message, id: 'm1', role: 'user', content: 'hi' },
      { ...message, id: 'm2', role: 'assistant', content: 'hello' },
    ],
    error,
  };
}

/** Resolves when the signal is aborted. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

export interface Play {
  readonly items: (context: RunContext) => AsyncGenerator<StreamItem>;
  readonly ended: (context: RunContext) => Promise<TurnOutcome>;
  /** Default: no human is awaited. */
  readonly waiting?: () => Promise<ApprovalInfo[]>;
}

async function* hello(): AsyncGenerator<StreamItem> {
  yield textItem(1, 'hello');
  yield resultItem(2, outcomeOf());
}

/** A turn that says `hello` and ends. */
export const helloPlay: Play = { items: hello, ended: async () => outcomeOf() };

/** A turn that fails with the error after the given events. */
export function failingPlay(error: NonNullable<TurnOutcome['error']>, before: readonly StreamItem[] = []): Play {
  const outcome = outcomeOf({ success: false, stop_reason: 'error', error: error.detail }, error);
  return {
    async *items() {
      yield* before;
      yield resultItem(9, outcome);
    },
    ended: async () => outcome,
  };
}

/** A turn that says `hello` and then waits to be stopped. */
export const waitingPlay: Play = {
  async *items({ signal }) {
    yield textItem(1, 'hello');
    await aborted(signal);
    yield resultItem(2, outcomeOf({ success: false, stop_reason: 'interrupted' }));
  },
  ended: async ({ signal }) => {
    await aborted(signal);
    return outcomeOf({ success: false, stop_reason: 'interrupted' });
  },
};

/** How a reader of events reads. The signal is aborted when it has left. */
export type Reading = EventsRequest & { readonly signal: AbortSignal };

/** What the engine was asked about a conversation. */
export interface Asked {
  readonly what: string;
  readonly principal: Principal;
  readonly id: string | undefined;
  /** The other arguments. */
  readonly rest: readonly unknown[];
}

/** An engine that plays one play for every turn, and remembers what it was asked. */
export class TestEngine implements Engine {
  play: Play = helloPlay;
  /** What a reader of events is given. */
  reading: (request: Reading) => AsyncGenerator<StreamItem> = hello;
  /** Thrown instead of an answer. */
  refusal: unknown = null;
  readonly calls: { principal: Principal; request: QueryRequest; context: RunContext }[] = [];
  readonly asked: Asked[] = [];
  modelCalls = 0;
  /** True: turns are those of an earlier request. */
  replays = false;
  /** Those that are listed, in pages of one. */
  pending: ApprovalInfo[] = [];
  /** Files of the workspace by path. */
  workspace: Record<string, () => { size: number; content: Readable }> = {
    'a.txt': () => ({ size: 1, content: Readable.from(['a']) }),
  };
  /** Replaces what is listed of the workspace. */
  listed: { files: WorkspaceFile[]; more: boolean } | null = null;
  /** Generators of events that were entered and not left. */
  open = 0;
  /** Events that were taken. */
  taken = 0;
  /** Stops the turns of conversations. */
  readonly interrupted = new AbortController();

  #ask(what: string, principal: Principal, id: string | undefined, ...rest: unknown[]): void {
    this.asked.push({ what, principal, id, rest });
    if (this.refusal) throw this.refusal;
  }

  #run(context: RunContext): RunningTurn {
    const { play } = this;
    return {
      conversation: 'conv-1',
      replayed: this.replays,
      waiting: play.waiting?.() ?? new Promise(() => undefined),
      events: () => feedOf(this.#counted(play.items(context))),
      ended: play.ended(context),
      totalMessages: async () => 7,
    };
  }

  async *#counted(items: AsyncGenerator<StreamItem>): AsyncGenerator<StreamItem> {
    this.open += 1;
    try {
      for await (const item of items) {
        this.taken += 1;
        yield item;
      }
    } finally {
      this.open -= 1;
    }
  }

  async startQuery(principal: Principal, request: QueryRequest, context: RunContext): Promise<RunningTurn> {
    this.calls.push({ principal, request, context });
    if (this.refusal) throw this.refusal;
    return this.#run(context);
  }

  async startConversation(
    principal: Principal,
    request: QueryRequest,
    { sessionId, ...context }: Omit<RunContext, 'signal'> & { readonly sessionId: string | undefined },
  ): Promise<RunningTurn> {
    this.#ask('start', principal, sessionId, request, context);
    return this.#run({ ...context, signal: this.interrupted.signal });
  }

  async continueConversation(
    principal: Principal,
    id: string,
    message: string,
    context: Omit<RunContext, 'signal'>,
  ): Promise<RunningTurn> {
    this.#ask('continue', principal, id, message, context);
    return this.#run({ ...context, signal: this.interrupted.signal });
  }

  async conversation(principal: Principal, id: string): Promise<ConversationInfo> {
    this.#ask('info', principal, id);
    return info;
  }

  async conversations(principal: Principal, list: ListRequest) {
    this.#ask('list', principal, undefined, list);
    return { items: [summary], next_cursor: 'next' };
  }

  async messages(principal: Principal, id: string): Promise<ClaudeMessage[]> {
    this.#ask('messages', principal, id);
    return [...outcomeOf().messages];
  }

  async events(principal: Principal, id: string, request: EventsRequest): Promise<Feed> {
    const stop = new AbortController();
    const reading = { ...request, signal: stop.signal };
    this.#ask('events', principal, id, reading);
    return feedOf(this.#counted(this.reading(reading)), stop);
  }

  async interrupt(principal: Principal, id: string): Promise<boolean> {
    this.#ask('interrupt', principal, id);
    this.interrupted.abort();
    return true;
  }

  async deleteConversation(principal: Principal, id: string): Promise<void> {
    this.#ask('delete', principal, id);
  }

  async fork(principal: Principal, id: string, sessionId: string | undefined): Promise<ConversationInfo> {
    this.#ask('fork', principal, id, sessionId);
    return { ...info, session_id: sessionId ?? 'conv-2' };
  }

  async diff(principal: Principal, id: string): Promise<ConversationDiff> {
    this.#ask('diff', principal, id);
    return { session_id: id, changes: '+a', changes_truncated: false, changed_paths: ['a.txt'] };
  }

  async files(principal: Principal, id: string): Promise<{ files: WorkspaceFile[]; more: boolean }> {
    this.#ask('files', principal, id);
    const files = Object.keys(this.workspace).map((path) => ({ path, size: 1, modifiedAt: 1_900_000_000_000 }));
    return this.listed ?? { files, more: false };
  }

  async file(principal: Principal, id: string, path: string): Promise<{ size: number; content: Readable }> {
    this.#ask('file', principal, id, path);
    const open = Object.hasOwn(this.workspace, path) ? this.workspace[path] : undefined;
    if (!open) throw new SallyportError('file_not_found');
    return open();
  }

  async approvals(principal: Principal, list: ApprovalsRequest) {
    this.#ask('approvals', principal, undefined, list);
    const at = Number(list.cursor ?? 0);
    const more = at + 1 < this.pending.length;
    return { items: this.pending.slice(at, at + 1), next_cursor: more ? String(at + 1) : null };
  }

  async approval(principal: Principal, id: string): Promise<ApprovalInfo> {
    this.#ask('approval', principal, id);
    return { ...approval, approval_id: id };
  }

  async decide(principal: Principal, id: string, decision: ApprovalDecisionRequest): Promise<ApprovalInfo> {
    this.#ask('decide', principal, id, decision);
    return { ...approval, approval_id: id, status: 'denied' };
  }

  models(): { models: string[]; default: string } {
    this.modelCalls += 1;
    return { models: ['test-model'], default: 'test-model' };
  }

  async close(): Promise<void> {
    this.interrupted.abort();
  }
}
