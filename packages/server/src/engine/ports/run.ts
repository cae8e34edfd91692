import type { Readable } from 'node:stream';
import type { ErrorCode, FileInput, LogEventBody, StopReason } from '@sallyport/protocol';
import type { BrokerGrant, BrokerTurn, CallVerdict } from './broker.ts';
import type { ModelCall } from './records.ts';
import type { SallyportError } from '../errors.ts';
import type { Profile, TurnRef } from './store.ts';

/** A tool call as Claude Code is about to run it. */
export interface ToolCall {
  readonly id: string;
  /** The model's message that made the call; null when it could not be told. */
  readonly messageId: string | null;
  readonly name: string;
  readonly input: Readonly<Record<string, unknown>>;
}

/** `ask`: a human decides, which `approve` is asked for then. */
export type ToolVerdict =
  | { readonly behavior: 'allow' | 'ask' }
  | { readonly behavior: 'deny'; readonly message: string };

/**
 * What became of a call that a human was asked about. `allow`: it is made with this input, and its `tool_start` is
 * committed. `free`: nobody has decided yet and the process is not to be held any longer.
 */
export type ApprovalVerdict =
  | { readonly behavior: 'allow'; readonly input: Readonly<Record<string, unknown>> }
  | { readonly behavior: 'deny'; readonly message: string }
  | { readonly behavior: 'free' };

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
  /** Set when the turn lost its process: nothing is said, and what the transcript leaves open goes on. */
  readonly recovery: Recovery | null;
  /** True: the process may stay for the next turn of the conversation. */
  readonly stay: boolean;
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
  /** Answers and spend of the turn before this run. */
  readonly before: BrokerGrant['before'];
}

/** What a turn that lost its process goes on with. */
export interface Recovery {
  /** What Claude is told as the outcome of calls that have none in its transcript. */
  readonly outcomes: readonly { readonly toolUseId: string; readonly text: string; readonly ok: boolean }[];
  /** The call that is made now, with the input a human allowed. `approve` is asked for it like for any other. */
  readonly call: { readonly toolUseId: string; readonly input: Readonly<Record<string, unknown>> } | null;
}

/** Where a turn stands in Claude Code's own transcript. */
export interface TranscriptState {
  /** True when Claude Code has taken the turn's message. */
  readonly hasMessage: boolean;
  /** True when the model has ended its answer. */
  readonly answered: boolean;
  /** Calls of the turn without an outcome, oldest first. */
  readonly open: readonly { readonly toolUseId: string; readonly name: string }[];
  /** Calls of the turn with an outcome. */
  readonly closed: ReadonlySet<string>;
  /** True when this text of this answer of the model is there. */
  hasText(messageId: string, text: string): boolean;
}

/** The engine's side of a run. The runner calls it; what it throws stops the run. */
export interface RunHost {
  /** Milliseconds for which the run may wait for its place; `Infinity`: for however long it takes. */
  timeLeftMs(): number;
  /**
   * Told where in the line the run is, 1 being the next, when it begins to wait for a process, and again when that has
   * changed, about once a second at most. Always told 0 when it waits no longer.
   */
  queued(place: number): void;
  /** A piece of the text or thinking block that is open. Not awaited. */
  delta(block: 'text' | 'thinking', text: string): void;
  /**
   * A durable event, in order; one that is not of the open block comes after it. What stays after a `restart` is recorded
   * again right behind it, as the same objects. Resolves when committed; the runner need not wait for it.
   */
  record(event: LogEventBody): Promise<void>;
  /** Asked before every tool call. Only `allow` lets it run, and then its `tool_start` is committed. */
  toolCall(call: ToolCall, view: WorkspaceView): Promise<ToolVerdict>;
  /** Asked for a call that a human decides. May take as long as the human does; asked again for the same call it is the same question. */
  approve(call: ToolCall, view: WorkspaceView): Promise<ApprovalVerdict>;
  /** Told of a call that was allowed, but that Claude Code did not run by a rule of its own. */
  toolRefused(id: string): Promise<void>;
  /** Told after each batch of tool calls; `stop` ends the run before the next model call. */
  batchEnded(turn: BrokerTurn): Promise<'continue' | 'stop'>;
  /** Asked before every call of the model about the budgets beyond the turn's own. `spentUsd`: by the turn so far. */
  mayCall(spentUsd: number): Promise<CallVerdict>;
  /** Told when Claude has ended and the process is still there, so that changes can be read. */
  ended(view: WorkspaceView): Promise<void>;
}

/**
 * The reason with which the signal of a run is aborted that is not this node's any more: its process is killed at once,
 * and nothing that it says from then on is stored.
 */
export class RunLostError extends Error {
  constructor() {
    super('the turn may be another node’s by now');
    this.name = 'RunLostError';
  }
}

/** How a run ended, as far as the runner can tell. */
export interface RunEnd {
  /** `interrupted`: the signal was aborted. `stopped`: `batchEnded` said so. */
  readonly reason:
    | Extract<StopReason, 'end_turn' | 'refusal' | 'interrupted' | 'max_turns' | 'max_budget' | 'error'>
    | 'stopped'
    /** A human is still to decide: the process was freed, and the turn goes on with a `recovery`. */
    | 'freed';
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

/** A process of Claude Code as it is now. */
export interface LiveProcess {
  readonly id: string;
  readonly pid: number;
  readonly startedAt: number;
  /** What it has resident, in bytes; 0 where the system does not tell. */
  readonly memoryBytes: number;
  /** How many sessions were in it. */
  readonly sessions: number;
  /**
   * `idle`: it waits for the next turn of its conversation. `cleared`: for any first turn of its tenant with the same
   * settings. `spare`: for anybody.
   */
  readonly state: 'starting' | 'running' | 'idle' | 'cleared' | 'spare';
  /** What it works for, or did last; null while it is starting or a spare. */
  readonly order: Pick<RunOrder, 'ref' | 'profile' | 'sdkSession'> | null;
}

/** Runs Claude Code. The only way of the engine to it. */
export interface Runner {
  /**
   * Why a run of this key would be refused now, with an honest time to come again; null when it would run, or wait
   * within its time. No I/O. Whoever is told null is expected to run soon, and `notComing` is to be told else.
   */
  refuse(who: Pick<TurnRef, 'tenant'> & Pick<RunOrder, 'key'>, timeLeftMs: number): SallyportError | null;
  notComing(): void;
  /**
   * Runs one turn. Resolves when its process has ended or was given back; aborting the signal stops it within seconds,
   * with `RunLostError` at once.
   * Rejects with `overloaded`, `workspace_not_accessible`, `isolation_unavailable` or `agent_crashed` when it could not run.
   */
  run(order: RunOrder, host: RunHost, signal: AbortSignal): Promise<RunEnd>;
  /** Where a turn stands in the transcript of a session. */
  transcriptState(tenant: string, session: string, messageUuid: string): Promise<TranscriptState>;
  /** False when a process was started with the kept files of a session, and its own were not kept after it. */
  areFilesKept(tenant: string, session: string): Promise<boolean>;
  /** Takes the files that were kept last for those of a session: later ones are lost, also if their node comes back. */
  giveUpFiles(tenant: string, session: string): Promise<void>;
  /**
   * Starts the process of a conversation that is about to go on, unless it is there already or there is no place. Nothing
   * is said to it. Resolves when it is there, or is not to be; never rejects.
   */
  warm(order: RunOrder): Promise<void>;
  /** Ends the process that stays for a conversation, given by its session, if there is one. Nothing of it may be running. */
  free(tenant: string, session: string): Promise<void>;
  /** Frees a conversation, given by its session, and deletes what is kept of its files. Nothing of it may be running. */
  forget(tenant: string, session: string): Promise<void>;
  /** Copies transcript and kept files of a session to another one that has none. Nothing of either may be running. */
  fork(from: ForkEnd, to: ForkEnd): Promise<void>;
  /** The processes there are. */
  processes(): LiveProcess[];
  readonly files: WorkspaceFiles;
  /** What the isolation of this machine is. */
  readonly jailed: boolean;
  health(): { readonly ok: boolean; readonly detail: string | null };
  /** Stops everything that runs and waits until no process is left. */
  close(): Promise<void>;
}

/** One side of a fork: a session of Claude Code, with its transcript and the files of its slot. */
export interface ForkEnd {
  readonly tenant: string;
  readonly session: string;
}

/** Whose files are read. */
export interface FilesOf {
  readonly tenant: string;
  /** Claude Code's session of the conversation: what is kept is kept under it, as it is never used again. */
  readonly session: string;
  /** Null: its slot, as its last turn left it. */
  readonly projectPath: string | null;
}

/** The files of conversations, read without following a link and without a process. */
export interface WorkspaceFiles {
  /** Regular files by path, at most `limit`; `more` when there are others. */
  list(of: FilesOf, limit: number): Promise<{ files: WorkspaceFile[]; more: boolean }>;
  /** Opens a regular file, given relative to the workspace; null when there is none. */
  open(of: FilesOf, path: string): Promise<{ readonly size: number; readonly content: Readable } | null>;
}

export interface WorkspaceFile {
  /** Relative to the workspace. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  readonly modifiedAt: number;
}

/** Structured logging. The first argument holds data, never a secret and never a prompt. */
export interface Log {
  info(data: object, message: string): void;
  warn(data: object, message: string): void;
  error(data: object, message: string): void;
}
