import type { LogEvent, LogEventBody } from '@sallyport/protocol';
import type { AuditEntry } from './guard.ts';
import type { TurnRef } from './store.ts';

export type ApprovalStatus = 'pending' | 'allowed' | 'denied' | 'expired' | 'cancelled';

/** A tool call that waits, or waited, for a human. */
export interface Approval {
  readonly tenant: string;
  readonly id: string;
  readonly conversation: string;
  readonly turn: string;
  /** Claude Code's id of the call; a turn has one approval for it at most. */
  readonly toolUseId: string;
  /** Name of the key that owns the conversation. */
  readonly key: string;
  /** `question`: Claude asks the human something. */
  readonly kind: 'tool' | 'question';
  readonly tool: string;
  readonly input: Readonly<Record<string, unknown>>;
  /** Hash of exactly this input: a decision is bound to it. */
  readonly inputHash: string;
  /** Unified diff of what the call would change; null when it cannot be told. */
  readonly diff: string | null;
  /** Why it is asked. */
  readonly reason: string;
  readonly status: ApprovalStatus;
  readonly createdAt: number;
  /** Without a decision by then it is denied. */
  readonly expiresAt: number;
  readonly decidedAt: number | null;
  /** Name of the key that decided, or `service`. */
  readonly decidedBy: string | null;
  readonly decision: ApprovalDecision | null;
}

/** What a human decided. */
export interface ApprovalDecision {
  /** What Claude is told; null: nothing. */
  readonly message: string | null;
  /** What the call is made with instead of its own input; null: with that. */
  readonly input: Readonly<Record<string, unknown>> | null;
  /** Calls of the conversation that this allows from now on; null: this one only. */
  readonly rule: string | null;
}

/** Which approvals are listed, newest first. */
export interface ApprovalFilter {
  readonly tenant: string;
  /** Null: of every key of the tenant. */
  readonly key: string | null;
  /** Null: of any status. */
  readonly status: ApprovalStatus | null;
  readonly before: { readonly createdAt: number; readonly id: string } | null;
  readonly limit: number;
}

/** The inbox of approvals. Deciding sets the row only; the owner of the turn acts on it. */
export interface ApprovalStore {
  /**
   * Commits a pending approval and its `approval_requested` event together; turn and conversation wait then. When the
   * turn has one for the call already, gives that and no event. Throws `StaleEpochError`.
   */
  request(
    ref: TurnRef,
    approval: Approval,
    event: LogEventBody,
  ): Promise<{ approval: Approval; event: LogEvent | null }>;
  get(tenant: string, id: string): Promise<Approval | null>;
  list(filter: ApprovalFilter): Promise<Approval[]>;
  /** Those of one turn, oldest first. */
  ofTurn(tenant: string, turn: string): Promise<Approval[]>;
  /**
   * Compare-and-set from pending, and not expired at `at`, to the decision. Null when it was not pending any more. A line
   * for the audit log is appended in the same transaction, and only when it was decided.
   */
  decide(
    tenant: string,
    id: string,
    made: {
      readonly status: 'allowed' | 'denied';
      readonly at: number;
      readonly by: string;
      readonly decision: ApprovalDecision;
    },
    audit?: AuditEntry,
  ): Promise<Approval | null>;
  /** Sets pending ones whose time has passed to expired and gives up to `limit` of them. */
  expire(now: number, limit: number): Promise<Approval[]>;
  /** Of these, those that were decided, expired or cancelled. */
  settledOf(approvals: readonly Pick<Approval, 'tenant' | 'id'>[]): Promise<Approval[]>;
  /** The rules that humans have given in a conversation. */
  rules(tenant: string, conversation: string): Promise<string[]>;
}

/** A file of a workspace before a conversation first changed it, and as its last turn left it. */
export interface FileImage {
  /** Relative to the workspace. */
  readonly path: string;
  /** Null: there was none. */
  readonly before: string | null;
  readonly after: string | null;
  /** False: a turn that was cut may have changed it since. */
  readonly settled: boolean;
}

/** What conversations change, file by file. */
export interface ImageStore {
  /** Keeps a file as it is before its first change by the conversation; a later image of it is not kept. Unsettles it. */
  before(ref: TurnRef, path: string, content: string | null): Promise<void>;
  /** By path. */
  ofConversation(tenant: string, conversation: string): Promise<FileImage[]>;
  /** The same without their texts. */
  pathsOf(tenant: string, conversation: string): Promise<Pick<FileImage, 'path' | 'settled'>[]>;
}

/** Whose ticket it is. */
export interface TicketOwner {
  readonly tenant: string;
  readonly key: string;
  /** Hash of the secret that the ticket stands for; null: any of the key. */
  readonly secretHash: string | null;
}

/** Tickets that stand for a key once. */
export interface TicketStore {
  /** Keeps a ticket under its hash. */
  put(hash: string, ticket: TicketOwner & { readonly expiresAt: number }): Promise<void>;
  /** Takes a ticket away and gives whose it was; null when there is none that has not expired. */
  take(hash: string, now: number): Promise<TicketOwner | null>;
  /** Deletes expired ones. */
  sweep(now: number): Promise<void>;
}
