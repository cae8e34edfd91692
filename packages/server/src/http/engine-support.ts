import type {
  ClaudeMessage,
  ConversationInfo,
  ConversationSummary,
  QueryRequest,
  RunResult,
  StreamItem,
} from '@sallyport/protocol';
import type { Engine, EventsRequest, ListRequest, RunContext, RunningTurn, TurnOutcome } from '../engine/engine.ts';
import type { Principal } from '../engine/principal.ts';

/** An engine for the tests of the transport, that plays what a test says. */

export function runResult(changes: Partial<RunResult> = {}): RunResult {
  return {
    success: true,
    error: null,
    execution_time: 0.5,
    tokens_used: 3,
    request_id: 'req-1',
    session_id: 'conv-1',
    model: 'test-model',
    stop_reason: 'end_turn',
    usage: { input_tokens: 1, output_tokens: 2, cache_read_tokens: 0, cache_write_tokens: 0 },
    cost_usd: 0.01,
    structured_output: null,
    tools_used: [],
    permission_denials: [],
    changes: null,
    changes_truncated: false,
    changed_paths: [],
    cached: false,
    ...changes,
  };
}

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

/** The one conversation that the test engine shows. */
export const summary: ConversationSummary = {
  session_id: 'conv-1',
  kind: 'conversation',
  status: 'idle',
  created_at: '2030-01-01T00:00:00.000Z',
  last_message_time: '2030-01-01T00:00:00.000Z',
  expires_at: '2030-01-01T01:00:00.000Z',
  permission_mode: 'askForEdits',
  model: 'test-model',
  metadata: {},
};

const info: ConversationInfo = {
  ...summary,
  exists: true,
  message_count: 2,
  tools_used: [],
  tokens_used: 3,
  cost_usd: 0.01,
};

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
  reading: (request: EventsRequest) => AsyncGenerator<StreamItem> = hello;
  /** Thrown instead of an answer. */
  refusal: unknown = null;
  readonly calls: { principal: Principal; request: QueryRequest; context: RunContext }[] = [];
  readonly asked: Asked[] = [];
  modelCalls = 0;
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
      events: () => this.#counted(play.items(context)),
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
    { requestId, sessionId }: { requestId: string; sessionId: string | undefined },
  ): Promise<RunningTurn> {
    this.#ask('start', principal, sessionId, request, requestId);
    return this.#run({ requestId, signal: this.interrupted.signal });
  }

  async continueConversation(
    principal: Principal,
    id: string,
    message: string,
    { requestId }: { requestId: string },
  ): Promise<RunningTurn> {
    this.#ask('continue', principal, id, message, requestId);
    return this.#run({ requestId, signal: this.interrupted.signal });
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

  async events(principal: Principal, id: string, request: EventsRequest): Promise<AsyncIterable<StreamItem>> {
    this.#ask('events', principal, id, request);
    return this.#counted(this.reading(request));
  }

  async interrupt(principal: Principal, id: string): Promise<boolean> {
    this.#ask('interrupt', principal, id);
    this.interrupted.abort();
    return true;
  }

  async deleteConversation(principal: Principal, id: string): Promise<void> {
    this.#ask('delete', principal, id);
  }

  models(): { models: string[]; default: string } {
    this.modelCalls += 1;
    return { models: ['test-model'], default: 'test-model' };
  }

  async close(): Promise<void> {}
}
