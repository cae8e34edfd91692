import type {
  ApprovalDecisionRequest,
  ApprovalInfo,
  ApprovalStatus,
  ClaudeMessage,
  ConversationDiff,
  ConversationInfo,
  ConversationKind,
  ConversationStatus,
  ConversationSummary,
  Cursor,
  QueryRequest,
  RunResult,
} from '@sallyport/protocol';
import type { Readable } from 'node:stream';
import type { Clock } from './clock.ts';
import type { SallyportError } from './errors.ts';
import type { Feed } from './feed.ts';
import type { KeyRing } from './keys.ts';
import type { Lease } from './nodes.ts';
import type { PolicySettings } from './policy.ts';
import type {
  ApprovalStore,
  AuditStore,
  BudgetStore,
  Bus,
  ConversationStore,
  ImageStore,
  JobStore,
  KeyStore,
  Log,
  ResponseCache,
  Runner,
  TenantStore,
  TranscriptStore,
  TurnStore,
  UsageStore,
  WorkspaceFile,
} from './ports.ts';
import type { Principal } from './principal.ts';
import type { Stops } from './stops.ts';

/** What a caller brings to a run besides the request. */
export interface RunContext {
  readonly requestId: string;
  /** Aborting it stops the run, unless it has an `idempotencyKey` or others share it. */
  readonly signal: AbortSignal;
  /** The client's `Idempotency-Key`: with one that was used before, the turn it started is given again. */
  readonly idempotencyKey: string | null;
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
  /** True: the turn of an earlier request under the same `Idempotency-Key`. It has ended. */
  readonly replayed: boolean;
  /**
   * Resolves, when the seconds of the turn's `timeout` have passed since its acceptance and a human is awaited, with the
   * approvals that are pending. Never otherwise, and never rejects.
   */
  readonly waiting: Promise<ApprovalInfo[]>;
  /** Wire events of the turn up to and with its `result`, without the user's own message. Whoever stops reading does not stop the turn. */
  events(): Feed;
  /** Resolves when the end of the turn is committed. Never rejects. */
  readonly ended: Promise<TurnOutcome>;
  /** Number of messages of the whole history up to the turn's end. */
  totalMessages(): Promise<number>;
}

/** Which conversations are wanted. */
export interface ListRequest {
  /** `next_cursor` of the page before. */
  readonly cursor?: string | undefined;
  readonly limit: number;
  readonly status?: ConversationStatus | undefined;
  readonly kind: ConversationKind;
}

/** How a conversation's events are read. */
export interface EventsRequest {
  readonly after: Cursor;
  /** False: stops when all there is was given. */
  readonly follow: boolean;
  /** Aborting it ends the reading. */
  readonly signal?: AbortSignal;
}

/** Which approvals are wanted. */
export interface ApprovalsRequest {
  /** `next_cursor` of the page before. */
  readonly cursor?: string | undefined;
  readonly limit: number;
  readonly status?: ApprovalStatus | undefined;
}

/** What the transports call. */
export interface Engine {
  /**
   * Accepts a one-shot query and starts it. Rejects, with nothing run and nothing stored, with `validation_failed`,
   * `model_not_allowed`, `path_not_allowed`, `not_ready` or `storage_full`, or with `idempotency_in_progress` or
   * `idempotency_key_reused`.
   */
  startQuery(principal: Principal, request: QueryRequest, context: RunContext): Promise<RunningTurn>;
  /**
   * Starts a conversation with its first turn, which goes on whoever leaves. Rejects like `startQuery`, and with
   * `conversation_exists` when the chosen id is taken.
   */
  startConversation(
    principal: Principal,
    request: QueryRequest,
    context: Omit<RunContext, 'signal'> & { readonly sessionId: string | undefined },
  ): Promise<RunningTurn>;
  /** Starts the next turn. Rejects also with `conversation_not_found`, `conversation_busy` or `conversation_ended`. */
  continueConversation(
    principal: Principal,
    id: string,
    message: string,
    context: Omit<RunContext, 'signal'>,
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
  events(principal: Principal, id: string, request: EventsRequest): Promise<Feed>;
  /** Stops the running turn and waits until its end is committed. False when none was running. */
  interrupt(principal: Principal, id: string): Promise<boolean>;
  /** Stops the running turn, then deletes history, transcript and files. */
  deleteConversation(principal: Principal, id: string): Promise<void>;
  /**
   * Makes a conversation of the principal's own with the past of another one: history, transcript and files of its
   * slot. Rejects also with `conversation_busy` and `conversation_exists`.
   */
  fork(principal: Principal, id: string, sessionId: string | undefined): Promise<ConversationInfo>;
  /** What a conversation changed in its workspace, against how it found it. */
  diff(principal: Principal, id: string): Promise<ConversationDiff>;
  /** Files of the workspace by path, as the last turn left them. */
  files(principal: Principal, id: string): Promise<{ files: WorkspaceFile[]; more: boolean }>;
  /** Rejects with `file_not_found`. */
  file(principal: Principal, id: string, path: string): Promise<{ readonly size: number; readonly content: Readable }>;
  /** Newest first. Rejects with `bad_cursor`. */
  approvals(
    principal: Principal,
    list: ApprovalsRequest,
  ): Promise<{ items: ApprovalInfo[]; next_cursor: string | null }>;
  /** Rejects with `approval_not_found`, also where the principal may not see it. */
  approval(principal: Principal, id: string): Promise<ApprovalInfo>;
  /**
   * Decides an approval, once; the turn goes on by itself. Rejects also with `already_decided`, and with
   * `validation_failed` when `updated_input` or `answers` do not fit the call.
   */
  decide(principal: Principal, id: string, decision: ApprovalDecisionRequest): Promise<ApprovalInfo>;
  models(principal: Principal): { models: string[]; default: string };
  /** Stops accepting, interrupts what runs, and waits until every turn's end is committed. */
  close(): Promise<void>;
}

/** How the run of a job is started. */
export interface JobStart {
  readonly requestId: string;
  /** Id of its conversation, which nobody else can know. */
  readonly id: string;
}

/** The engine as its maker has it. */
export interface OwnEngine extends Engine {
  /** Rejects as `startQuery` does where the principal may not ask that now. Nothing is stored. */
  checkQuery(principal: Principal, request: QueryRequest): Promise<void>;
  /** Starts the run of a job: nobody has to wait for it. Rejects like `startQuery`, and with `conversation_exists`. */
  startJob(principal: Principal, request: QueryRequest, start: JobStart): Promise<RunningTurn>;
  /** Stops the turn of a conversation that runs here, and waits until its end is committed. False when none does. */
  stopTurn(tenant: string, conversation: string): Promise<boolean>;
  /**
   * Accepts no more turns and lets those that run go on. One that is stopped from now on is stopped by the service.
   * Resolves when none runs any more; those that wait for a human are left to the next start. Never rejects.
   */
  drain(): Promise<void>;
}

/** What the engine is made of. */
export interface EngineParts {
  readonly turns: TurnStore;
  readonly conversations: ConversationStore;
  readonly transcripts: TranscriptStore;
  readonly usage: UsageStore;
  readonly approvals: ApprovalStore;
  readonly images: ImageStore;
  readonly audit: AuditStore;
  readonly keys: KeyStore;
  readonly tenants: TenantStore;
  readonly budgets: BudgetStore;
  readonly jobs: Pick<JobStore, 'cancelRun'>;
  readonly keyRing: Pick<KeyRing, 'named' | 'watch'>;
  /** Started. */
  readonly stops: Stops;
  /** The engine starts it, and closes it last. */
  readonly lease: Lease;
  /** Reaches the other nodes. */
  readonly bus: Bus;
  readonly runner: Runner;
  readonly clock: Clock;
  readonly logger: Log;
  readonly policy: PolicySettings;
  /** Names the configuration in force in the audit log. */
  readonly configuration: string;
  readonly workspaceRoots: readonly string[];
  /** True for the service's own directories, which no run may have as its workspace. */
  readonly isProtected: (path: string) => boolean;
  /** False: what a call of the model costs is not known, so it cannot have a budget. */
  readonly isPriced: (model: string) => boolean;
  readonly responseCache: ResponseCache;
  /** Seconds for which an answer may be given again; 0: never. */
  readonly cacheTtlSeconds: number;
  /** Seconds without a message after which a conversation ends by itself. */
  readonly conversationTtlSeconds: number;
  /** Days after its end for which a conversation can be read. */
  readonly retentionDays: number;
  /** Seconds that a process is held for a human's decision; 0: it is freed at once. */
  readonly approvalHoldSeconds: number;
  /** Seconds after which an approval that nobody decided is denied. */
  readonly approvalTtlSeconds: number;
}
