import type {
  FileInput,
  LogEvent,
  LogEventBody,
  PermissionMode,
  RunResult,
  StopReason,
  ToolName,
  Usage,
  ErrorCode,
} from '@sallyport/protocol';

/** Names one turn and the right to write it. Every write names the epoch and is refused when another writer has taken over. */
export interface TurnRef {
  readonly tenant: string;
  readonly conversation: string;
  readonly turn: string;
  readonly epoch: number;
}

export type TurnState = 'accepted' | 'running' | 'waiting' | 'completed' | 'failed' | 'interrupted' | 'cancelled';
export type TurnEndState = Extract<TurnState, 'completed' | 'failed' | 'interrupted' | 'cancelled'>;

/** What is fixed when the process of a run starts. */
export interface Profile {
  readonly tenant: string;
  /** `null`: a slot, an empty directory of the run's own. Else the real path of an allowed directory. */
  readonly projectPath: string | null;
  readonly access: 'ro' | 'rw';
  readonly permissionMode: PermissionMode;
  readonly tools: readonly ToolName[];
  readonly model: string;
  readonly effort: 'low' | 'medium' | 'high' | null;
  /** Added to Claude Code's own system prompt. */
  readonly systemPrompt: string | null;
  readonly outputSchema: Readonly<Record<string, unknown>> | null;
}

/** A conversation as it is stored. */
export interface ConversationRecord {
  readonly tenant: string;
  readonly id: string;
  /** Name of the key that owns it. */
  readonly key: string;
  readonly kind: 'query' | 'conversation';
  readonly profile: Profile;
  readonly limits: TurnLimits;
  /** Claude Code's own session id, a UUID. */
  readonly sdkSession: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly createdAt: number;
}

/** What bounds every turn of a conversation, fixed at its start. */
export interface TurnLimits {
  /** Model calls. */
  readonly maxTurns: number;
  readonly timeoutSeconds: number;
  /** Null: none. */
  readonly budgetUsd: number | null;
  /** True: the workspace's CLAUDE.md is given to Claude as data. */
  readonly instructions: boolean;
}

/** A conversation as it stands. */
export interface StoredConversation extends ConversationRecord {
  readonly status: 'idle' | 'running' | 'ended';
  readonly lastSeq: number;
  /** Time of the last event. */
  readonly lastActiveAt: number;
}

/** A turn that is to be accepted, in a new conversation. */
export interface AcceptTurn {
  readonly conversation: ConversationRecord;
  readonly turn: string;
  /** The parsed request, kept for replay and audit. */
  readonly request: unknown;
  readonly at: number;
  readonly events: readonly LogEventBody[];
}

/** The next turn of a conversation that is there. */
export interface AcceptNextTurn {
  readonly tenant: string;
  readonly conversation: string;
  readonly turn: string;
  readonly request: unknown;
  readonly at: number;
  readonly events: readonly LogEventBody[];
}

/** Thrown when a conversation is to be made under an id that is taken. */
export class ConversationExistsError extends Error {
  constructor(id: string) {
    super(`conversation ${id} exists already`);
    this.name = 'ConversationExistsError';
  }
}

/** Which conversations are listed. */
export interface ConversationFilter {
  readonly tenant: string;
  /** Null: of every key of the tenant. */
  readonly key: string | null;
  readonly kind: 'query' | 'conversation';
  /** Only those before this place of the order, newest activity last; null: from the newest. */
  readonly before: { readonly createdAt: number; readonly id: string } | null;
  readonly limit: number;
}

/** Conversations as a whole. */
export interface ConversationStore {
  /** Null when there is none of this tenant. */
  get(tenant: string, id: string): Promise<StoredConversation | null>;
  /** Newest first, by creation. */
  list(filter: ConversationFilter): Promise<StoredConversation[]>;
  /** Deletes conversation, turns and events; the usage stays. False when there was none. */
  delete(tenant: string, id: string): Promise<boolean>;
}

/** How a turn ended, written with its last event in one transaction. */
export interface TurnEnd {
  readonly state: TurnEndState;
  readonly at: number;
  readonly result: RunResult;
  readonly code: ErrorCode | null;
}

/** Conversations, turns and their log. Writes throw `StaleEpochError` when the epoch of the reference is not the stored one. */
export interface TurnStore {
  /**
   * Commits conversation, turn and first events together and gives the turn's reference. Throws
   * `ConversationExistsError`, with nothing stored, when the tenant has a conversation of this id.
   */
  accept(turn: AcceptTurn): Promise<{ ref: TurnRef; events: LogEvent[] }>;
  /**
   * Commits the next turn of an idle conversation: compare-and-set from idle to running with a raised epoch. Null, with
   * nothing stored, when the conversation is not idle or not there.
   */
  acceptNext(turn: AcceptNextTurn): Promise<{ ref: TurnRef; events: LogEvent[] } | null>;
  /** Sets an accepted turn to running. */
  begin(ref: TurnRef, at: number): Promise<void>;
  /** Appends events; they are durable when it resolves. */
  append(ref: TurnRef, at: number, events: readonly LogEventBody[]): Promise<LogEvent[]>;
  /** Ends the turn exactly once: its state, its `result` event and the conversation's idle state in one transaction. */
  finish(ref: TurnRef, end: TurnEnd): Promise<LogEvent>;
  /** Up to `limit` events after `seq`, in order. */
  read(tenant: string, conversation: string, after: number, limit: number): Promise<LogEvent[]>;
  /** Turns without an end, of all tenants, with a raised epoch: for the start of the only node. */
  takeUnfinished(): Promise<UnfinishedTurn[]>;
  /** Throws when the store cannot be written. */
  check(): Promise<void>;
}

export interface UnfinishedTurn {
  readonly ref: TurnRef;
  readonly acceptedAt: number;
  readonly model: string;
}

/** Thrown when a write names an epoch that is no longer the conversation's: another writer has taken over. */
export class StaleEpochError extends Error {
  constructor(ref: TurnRef) {
    super(`epoch ${ref.epoch} of turn ${ref.turn} is stale`);
    this.name = 'StaleEpochError';
  }
}

/** Claude Code's own transcript entries, by tenant and session. Opaque JSON; `uuid` makes a repeated entry harmless. */
export interface TranscriptStore {
  append(key: TranscriptKey, entries: readonly TranscriptEntry[]): Promise<void>;
  /** All entries in order of append, or null when there are none. */
  load(key: TranscriptKey): Promise<TranscriptEntry[] | null>;
  /** True when the session has a main transcript. */
  has(tenant: string, session: string): Promise<boolean>;
  /** The sub-transcripts of a session. */
  subpaths(tenant: string, session: string): Promise<string[]>;
  /** Deletes the transcript and its sub-transcripts. */
  delete(tenant: string, session: string): Promise<void>;
}

export interface TranscriptKey {
  readonly tenant: string;
  readonly session: string;
  /** Empty for the session's main transcript. */
  readonly subpath: string;
}

export type TranscriptEntry = Readonly<Record<string, unknown>>;

/** One model call, as the broker metered it. */
export interface ModelCall {
  readonly id: string;
  readonly ref: TurnRef;
  /** Name of the key that pays. */
  readonly key: string;
  readonly at: number;
  readonly model: string;
  readonly usage: Usage;
  /** Null: the price of the model is not known. */
  readonly costUsd: number | null;
  /** HTTP status of the upstream's answer, 0 when there was none. */
  readonly status: number;
  readonly durationMs: number;
}

export interface UsageStore {
  record(call: ModelCall): Promise<void>;
  /** The calls of one turn. */
  ofTurn(ref: TurnRef): Promise<ModelCall[]>;
  /** Tokens of all kinds and known costs of all calls of a conversation. */
  ofConversation(tenant: string, conversation: string): Promise<{ tokens: number; costUsd: number }>;
}

/** Why a model call finally failed, as the broker saw it. */
export interface UpstreamFailure {
  readonly code: ErrorCode;
  /** Seconds the upstream asked to wait. */
  readonly retryAfter: number | undefined;
  /** For logs only. */
  readonly cause: string;
}

/** What the broker must know of a turn to pass its model calls. */
export interface BrokerGrant {
  readonly ref: TurnRef;
  readonly key: string;
  /** The only model the turn may call. */
  readonly model: string;
  /** Most that the turn may have spent before another call is passed. */
  readonly budgetUsd: number | null;
  /** Most answers of the model; a further call is refused. Calls that offer no tools are not counted where the run has tools. */
  readonly maxCalls: number;
  /** True when the run has tools. */
  readonly hasTools: boolean;
  /** True: a model answer holds at most one tool call, so that a pending approval loses no other call. */
  readonly singleToolCalls: boolean;
  /** Called before each repeated try of a model call. */
  readonly onRetry: (attempt: number, reason: string) => void;
}

/** The model calls of one turn. */
export interface BrokerTurn {
  readonly calls: readonly ModelCall[];
  spentUsd(): number;
  /** True once a call was refused because the budget was reached. */
  budgetReached(): boolean;
  /** True once a call was refused because `maxCalls` was reached. */
  callsReached(): boolean;
  /** The last final failure, if the last call failed. */
  failure(): UpstreamFailure | null;
  /** Resolves when every call's usage is stored; rejects when one could not be. No further call is passed after it is called. */
  settle(): Promise<void>;
}

/** A process's way to the model: a token that is worth nothing elsewhere. */
export interface BrokerPass {
  readonly token: string;
  bind(grant: BrokerGrant): BrokerTurn;
  /** Ends all calls of the process at once and forgets the token. */
  revoke(): void;
}

/** The only way from a process to the model. */
export interface Broker {
  /** Unix socket that speaks the Messages API. */
  readonly socketPath: string;
  issue(): BrokerPass;
  /** The last known state of the upstream; never a call. */
  health(): { readonly ok: boolean; readonly code: ErrorCode | null };
  close(): Promise<void>;
}

/** A tool call as Claude Code is about to run it. */
export interface ToolCall {
  readonly id: string;
  /** The model's message that made the call; null when it could not be told. */
  readonly messageId: string | null;
  readonly name: string;
  readonly input: Readonly<Record<string, unknown>>;
}

export type ToolVerdict = { readonly behavior: 'allow' } | { readonly behavior: 'deny'; readonly message: string };

/** What the engine may ask of a live run about its workspace. Answers come from inside the jail. */
export interface WorkspaceView {
  /** The workspace as Claude sees it, an absolute path. */
  readonly root: string;
  /** The same directory as this host sees it. */
  readonly hostRoot: string;
  /** Text of a file, or null when there is none that Claude could read. Throws when it cannot be found out. */
  readFile(path: string): Promise<string | null>;
  /** Stamp (size and time of change) of up to `limit` files by relative path; null when there are more or it cannot be found out. */
  stamps(limit: number): Promise<ReadonlyMap<string, string> | null>;
}

/** What one run needs. */
export interface RunOrder {
  readonly ref: TurnRef;
  readonly key: string;
  readonly profile: Profile;
  readonly sdkSession: string;
  /** True: the session is continued from its transcript, or begun when it has none. */
  readonly resume: boolean;
  /** True: the files of a slot are kept for the next turn of the conversation; those kept before are put back first. */
  readonly keepFiles: boolean;
  readonly prompt: string;
  readonly messageUuid: string;
  readonly files: readonly FileInput[];
  /** True: the workspace's CLAUDE.md is given to Claude as data. */
  readonly instructions: boolean;
  /** Most model calls. */
  readonly maxTurns: number;
  readonly budgetUsd: number | null;
}

/** The engine's side of a run. The runner calls it; what it throws stops the run. */
export interface RunHost {
  /** A piece of the text or thinking block that is open. Not awaited. */
  delta(block: 'text' | 'thinking', text: string): void;
  /** A durable event, in order. Resolves when committed; the runner need not wait for it. */
  record(event: LogEventBody): Promise<void>;
  /** Asked before every tool call. Only `allow` lets it run, and then its `tool_start` is committed. */
  toolCall(call: ToolCall, view: WorkspaceView): Promise<ToolVerdict>;
  /** Told of a call that was allowed, but that Claude Code did not run by a rule of its own. */
  toolRefused(id: string): Promise<void>;
  /** Told after each batch of tool calls; `stop` ends the run before the next model call. */
  batchEnded(turn: BrokerTurn): 'continue' | 'stop';
  /** Told when Claude has ended and the process is still there, so that changes can be read. */
  ended(view: WorkspaceView): Promise<void>;
}

/** How a run ended, as far as the runner can tell. */
export interface RunEnd {
  /** `interrupted`: the signal was aborted. `stopped`: `batchEnded` said so. */
  readonly reason:
    | Extract<StopReason, 'end_turn' | 'refusal' | 'interrupted' | 'max_turns' | 'max_budget' | 'error'>
    | 'stopped';
  /** Set when `reason` is `error`. */
  readonly failure: {
    readonly code: ErrorCode | null;
    readonly detail: string;
    readonly retryAfter?: number;
    readonly cause?: unknown;
  } | null;
  readonly structuredOutput: unknown;
  /** Model that answered, as the upstream named it. */
  readonly model: string | null;
  readonly calls: readonly ModelCall[];
}

/** Runs Claude Code. The only way of the engine to it. */
export interface Runner {
  /**
   * Runs one turn. Resolves when its process has ended or was given back; aborting the signal stops it within seconds.
   * Rejects with `overloaded`, `workspace_not_accessible`, `isolation_unavailable` or `agent_crashed` when it could not run.
   */
  run(order: RunOrder, host: RunHost, signal: AbortSignal): Promise<RunEnd>;
  /** Deletes what is kept of a conversation's files. Nothing of it may be running. */
  forget(tenant: string, conversation: string): Promise<void>;
  /** What the isolation of this machine is. */
  readonly jailed: boolean;
  health(): { readonly ok: boolean; readonly detail: string | null };
  /** Stops everything that runs and waits until no process is left. */
  close(): Promise<void>;
}

/** Structured logging. The first argument holds data, never a secret and never a prompt. */
export interface Log {
  info(data: object, message: string): void;
  warn(data: object, message: string): void;
  error(data: object, message: string): void;
}
