import type {
  ConversationKind,
  ErrorCode,
  LogEvent,
  LogEventBody,
  PermissionMode,
  RunResult,
  ToolName,
} from '@sallyport/protocol';
import type { AuditEntry } from './guard.ts';

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
  readonly kind: ConversationKind;
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
  /** `gone`: its retention has passed, and nothing but its id is left. */
  readonly status: 'idle' | 'running' | 'waiting' | 'ended' | 'gone';
  /** Raised with every turn and every takeover. */
  readonly epoch: number;
  readonly lastSeq: number;
  /** Time of the last event. */
  readonly lastActiveAt: number;
}

/** A turn that is to be accepted, in a new conversation. */
export interface AcceptTurn {
  readonly conversation: ConversationRecord;
  readonly turn: string;
  /** The node that will run it. */
  readonly node: string;
  /** The parsed request, kept for replay and audit. */
  readonly request: unknown;
  readonly at: number;
  readonly events: readonly LogEventBody[];
  readonly claim: IdempotencyClaim | null;
}

/** A client's promise that two requests under one `Idempotency-Key` are one request. Kept with the turn it started. */
export interface IdempotencyClaim {
  /** Name of the key that sent it: each key has its own. */
  readonly key: string;
  readonly idempotencyKey: string;
  /** Hash of the whole request. */
  readonly hash: string;
  readonly expiresAt: number;
}

/** Thrown when a turn is to be accepted under an `Idempotency-Key` that has a turn already. */
export class ClaimTakenError extends Error {
  constructor() {
    super('there is a turn under this idempotency key already');
    this.name = 'ClaimTakenError';
  }
}

/** The next turn of a conversation that is there. */
export interface AcceptNextTurn {
  readonly tenant: string;
  readonly conversation: string;
  readonly turn: string;
  /** The node that will run it. */
  readonly node: string;
  readonly request: unknown;
  readonly at: number;
  readonly events: readonly LogEventBody[];
  readonly claim: IdempotencyClaim | null;
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
  readonly kind: ConversationKind;
  /** Only those before this place of the order, newest activity last; null: from the newest. */
  readonly before: { readonly createdAt: number; readonly id: string } | null;
  readonly limit: number;
}

/** Of a conversation, what tells whoever follows it that there is something new. `sdkSession` tells it from another one of its id. */
export type ConversationHead = Pick<StoredConversation, 'id' | 'sdkSession' | 'status' | 'lastSeq'>;

/** Conversations as a whole. */
export interface ConversationStore {
  /** Null when there is none of this tenant. */
  get(tenant: string, id: string): Promise<StoredConversation | null>;
  /** How those of these conversations stand that are there, in no order. */
  heads(tenant: string, ids: readonly string[]): Promise<ConversationHead[]>;
  /** Newest first, by creation. */
  list(filter: ConversationFilter): Promise<StoredConversation[]>;
  /** Deletes a conversation with all that belongs to it; the usage stays. False when there was none. */
  delete(tenant: string, id: string): Promise<boolean>;
  /**
   * Makes a conversation with the past of another one: its events and file images, no turns. Null, with nothing stored,
   * when a turn of the other one runs or its epoch is not `epoch` any more. Throws `ConversationExistsError`.
   */
  fork(fork: Fork): Promise<StoredConversation | null>;
  /** Ends a conversation for good, so that it has no next turn. False while a turn runs; true when there is none. */
  end(tenant: string, id: string): Promise<boolean>;
  /** Ends up to `limit` idle conversations without activity since `before` and gives them. */
  endIdle(before: number, limit: number): Promise<{ tenant: string; id: string; sdkSession: string }[]>;
  /** Up to `limit` ended conversations without activity since `before`. */
  listEnded(before: number, limit: number): Promise<{ tenant: string; id: string; sdkSession: string }[]>;
  /** Deletes all that belongs to an ended conversation but its row, which says `gone` then. False when it has not ended. */
  bury(tenant: string, id: string): Promise<boolean>;
}

/** A conversation that is to be made out of another one. */
export interface Fork {
  readonly tenant: string;
  readonly from: string;
  readonly epoch: number;
  readonly id: string;
  /** Name of the key that will own it. */
  readonly key: string;
  readonly sdkSession: string;
  readonly at: number;
}

/** How a turn ended, written with its last event in one transaction. */
export interface TurnEnd {
  readonly state: TurnEndState;
  readonly at: number;
  readonly result: RunResult;
  readonly code: ErrorCode | null;
  /** True: nothing ran, so that the same request may be sent again under its `Idempotency-Key`. */
  readonly nothingRan: boolean;
  /** Files that the turn may have changed, as they are now. */
  readonly files: readonly { readonly path: string; readonly content: string | null }[];
}

/** Conversations, turns and their log. Writes throw `StaleEpochError` when the epoch of the reference is not the stored one. */
export interface TurnStore {
  /**
   * Commits conversation, turn and first events together and gives the turn's reference. Throws
   * `ConversationExistsError`, with nothing stored, when the tenant has a conversation of this id, and before that
   * `ClaimTakenError` when there is a turn under its claim.
   */
  accept(turn: AcceptTurn): Promise<{ ref: TurnRef; events: LogEvent[] }>;
  /**
   * Commits the next turn of an idle conversation: compare-and-set from idle to running with a raised epoch. Null, with
   * nothing stored, when the conversation is not idle or not there. Throws `ClaimTakenError` before that when there is a
   * turn under its claim.
   */
  acceptNext(turn: AcceptNextTurn): Promise<{ ref: TurnRef; events: LogEvent[] } | null>;
  /** Sets an accepted turn to running. */
  begin(ref: TurnRef, at: number): Promise<void>;
  /**
   * Appends events; they are durable when it resolves. Turn and conversation have the given state then; without one
   * theirs stays. Lines for the audit log are appended in the same transaction: both are stored, or neither.
   */
  append(
    ref: TurnRef,
    at: number,
    events: readonly LogEventBody[],
    state?: 'running' | 'waiting',
    audit?: readonly AuditEntry[],
  ): Promise<LogEvent[]>;
  /** Keeps how far a turn has come, so that its limits go on counting when another process takes it over. */
  count(ref: TurnRef, counters: TurnCounters): Promise<void>;
  /**
   * Ends the turn exactly once: its state, its `result` event, the conversation's idle state, its pending approvals
   * (`expired` when it ends as `timeout`, else `cancelled`), its claim and the given files in one transaction.
   */
  finish(ref: TurnRef, end: TurnEnd): Promise<LogEvent>;
  /** Deletes the conversation of a turn of which nothing has run, as if it had never been accepted. */
  withdraw(ref: TurnRef): Promise<void>;
  /** Null when the tenant has no such turn. */
  get(tenant: string, turn: string): Promise<StoredTurn | null>;
  /** The turn under an `Idempotency-Key` that has not expired; null when there is none. */
  claimed(
    tenant: string,
    key: string,
    idempotencyKey: string,
    now: number,
  ): Promise<{ readonly hash: string; readonly turn: StoredTurn } | null>;
  /** Deletes up to `limit` expired claims. */
  sweepClaims(now: number, limit: number): Promise<number>;
  /** Up to `limit` events after `seq`, in order. */
  read(tenant: string, conversation: string, after: number, limit: number): Promise<LogEvent[]>;
  /** Gives the turns without an end that are of no node in the list to this one, of all tenants, with raised epochs. */
  takeUnfinished(by: string): Promise<UnfinishedTurn[]>;
  /** The turns without an end of a node, of all tenants. */
  ofNode(node: string): Promise<TurnRef[]>;
  /** Says that nobody runs a turn, so that the next one who looks takes it. Nothing, when another writer has taken over. */
  giveUp(ref: TurnRef): Promise<void>;
  /** Asks whoever runs the turn of a conversation to stop it, and gives turn and node; null when none runs. */
  askStop(tenant: string, conversation: string): Promise<{ readonly turn: string; readonly node: string } | null>;
  /** The conversations of a node whose turn somebody wants stopped, of all tenants. */
  askedToStop(node: string): Promise<Pick<TurnRef, 'tenant' | 'conversation'>[]>;
  /** Throws when the store cannot be written. */
  check(): Promise<void>;
}

/** How far a turn has come. */
export interface TurnCounters {
  /** Batches of tool calls. */
  readonly batches: number;
  /** Milliseconds that counted toward its timeout. */
  readonly activeMs: number;
}

/** A turn as it is stored. */
export interface StoredTurn extends TurnCounters {
  readonly ref: TurnRef;
  readonly state: TurnState;
  readonly request: unknown;
  readonly acceptedAt: number;
  /** Null while it has no end. */
  readonly result: RunResult | null;
  readonly code: ErrorCode | null;
}

/** A turn without an end that was taken over, with its conversation. */
export interface UnfinishedTurn {
  readonly turn: StoredTurn;
  readonly conversation: StoredConversation;
  /** True when it was started under an `Idempotency-Key`. */
  readonly claimed: boolean;
}

/** Thrown when a write names an epoch that is no longer the conversation's: another writer has taken over. */
export class StaleEpochError extends Error {
  constructor(ref: TurnRef) {
    super(`epoch ${ref.epoch} of turn ${ref.turn} is stale`);
    this.name = 'StaleEpochError';
  }
}
