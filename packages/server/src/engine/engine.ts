import type {
  ClaudeMessage,
  ConversationInfo,
  ConversationStatus,
  ConversationSummary,
  Cursor,
  QueryRequest,
  RunResult,
  StreamItem,
} from '@sallyport/protocol';
import type { Clock } from './clock.ts';
import type { SallyportError } from './errors.ts';
import type { PolicySettings } from './policy.ts';
import type { ConversationStore, Log, Runner, TranscriptStore, TurnStore, UsageStore } from './ports.ts';
import type { Principal } from './principal.ts';

/** What a caller brings to a run besides the request. */
export interface RunContext {
  readonly requestId: string;
  /** Aborting it stops the run. */
  readonly signal: AbortSignal;
}

/** How a turn ended. */
export interface TurnOutcome {
  readonly result: RunResult;
  /** What the turn added, the user's own message first. */
  readonly messages: readonly ClaudeMessage[];
  /** Set when the run could not happen or failed for a reason that has a code. */
  readonly error: SallyportError | null;
}

/** A turn that was accepted: it is committed and runs to its end whether or not anybody reads. */
export interface RunningTurn {
  readonly conversation: string;
  /** Wire events of the turn up to and with its `result`, without the user's own message. Leaving the loop does not stop the turn. */
  events(): AsyncIterable<StreamItem>;
  /** Resolves when the end of the turn is committed. Never rejects. */
  readonly ended: Promise<TurnOutcome>;
  /** Number of messages of the whole history, after the turn's end. */
  totalMessages(): Promise<number>;
}

/** Which conversations are wanted. */
export interface ListRequest {
  /** `next_cursor` of the page before. */
  readonly cursor?: string | undefined;
  readonly limit: number;
  readonly status?: ConversationStatus | undefined;
  readonly kind: 'query' | 'conversation';
}

/** How a conversation's events are read. */
export interface EventsRequest {
  readonly after: Cursor;
  /** False: stops when all there is was given. */
  readonly follow: boolean;
  /** Aborting it ends the reading. */
  readonly signal: AbortSignal;
}

/** What the transports call. */
export interface Engine {
  /**
   * Accepts a one-shot query and starts it. Rejects, with nothing run and nothing stored, with `validation_failed`,
   * `model_not_allowed`, `path_not_allowed`, `not_ready` or `storage_full`.
   */
  startQuery(principal: Principal, request: QueryRequest, context: RunContext): Promise<RunningTurn>;
  /**
   * Starts a conversation with its first turn, which goes on whoever leaves. Rejects like `startQuery`, and with
   * `conversation_exists` when the chosen id is taken.
   */
  startConversation(
    principal: Principal,
    request: QueryRequest,
    context: { readonly requestId: string; readonly sessionId: string | undefined },
  ): Promise<RunningTurn>;
  /** Starts the next turn. Rejects also with `conversation_not_found`, `conversation_busy` or `conversation_ended`. */
  continueConversation(
    principal: Principal,
    id: string,
    message: string,
    context: { readonly requestId: string },
  ): Promise<RunningTurn>;
  /** Rejects with `conversation_not_found`, as do all that take an id: also where the principal may not see it. */
  conversation(principal: Principal, id: string): Promise<ConversationInfo>;
  /** Rejects with `bad_cursor`. */
  conversations(
    principal: Principal,
    list: ListRequest,
  ): Promise<{ items: ConversationSummary[]; next_cursor: string | null }>;
  messages(principal: Principal, id: string): Promise<ClaudeMessage[]>;
  /** Rejects with `bad_cursor` when the cursor is beyond the end. */
  events(principal: Principal, id: string, request: EventsRequest): Promise<AsyncIterable<StreamItem>>;
  /** Stops the running turn and waits until its end is committed. False when none was running. */
  interrupt(principal: Principal, id: string): Promise<boolean>;
  /** Stops the running turn, then deletes history, transcript and files. */
  deleteConversation(principal: Principal, id: string): Promise<void>;
  models(principal: Principal): { models: string[]; default: string };
  /** Stops accepting, interrupts what runs, and waits until every turn's end is committed. */
  close(): Promise<void>;
}

/** The engine as its maker has it. */
export interface OwnEngine extends Engine {
  /** Accepts no more turns and lets those that run go on. One that is stopped from now on is stopped by the service. */
  drain(): void;
}

/** What the engine is made of. */
export interface EngineParts {
  readonly turns: TurnStore;
  readonly conversations: ConversationStore;
  readonly transcripts: TranscriptStore;
  readonly usage: UsageStore;
  readonly runner: Runner;
  readonly clock: Clock;
  readonly logger: Log;
  readonly policy: PolicySettings;
  readonly workspaceRoots: readonly string[];
  /** True for the service's own directories, which no run may have as its workspace. */
  readonly isProtected: (path: string) => boolean;
  /** False: what a call of the model costs is not known, so it cannot have a budget. */
  readonly isPriced: (model: string) => boolean;
  /** Seconds without a message after which a conversation ends by itself. */
  readonly conversationTtlSeconds: number;
}
