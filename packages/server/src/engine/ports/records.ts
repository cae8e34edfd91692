import type { Usage } from '@sallyport/protocol';
import type { TurnRef } from './store.ts';

/** Claude Code's own transcript entries, by tenant and session. Opaque JSON; `uuid` makes a repeated entry harmless. */
export interface TranscriptStore {
  /**
   * Appends for a turn, or between it and the next one of its conversation. Throws `StaleEpochError` when the conversation
   * has another epoch by now. Without a writer nobody else may know the session.
   */
  append(key: TranscriptKey, entries: readonly TranscriptEntry[], writer?: TurnRef): Promise<void>;
  /** All entries in order of append; null when there are none. From one that is damaged on they are deleted. */
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

/** What a key used of a model in a day of UTC. */
export interface DayUsage {
  readonly tenant: string;
  readonly key: string;
  /** As `2026-11-21`. */
  readonly day: string;
  readonly model: string;
  readonly calls: number;
  readonly usage: Usage;
  /** Of the calls whose price is known. */
  readonly costUsd: number;
  readonly unpricedCalls: number;
}

/** Which usage is wanted; null: of all. */
export interface UsageQuery {
  readonly tenant: string | null;
  readonly key: string | null;
  /** First and last day, as `2026-11-21`. */
  readonly from: string;
  readonly to: string;
}

export interface UsageStore {
  /** Keeps a call once, adds it to the usage of its day and lessens what its turn has reserved, in one transaction. */
  record(call: ModelCall): Promise<void>;
  /** Newest day first, then by tenant, key and model. */
  byDay(query: UsageQuery): Promise<DayUsage[]>;
  /** The calls of one turn. */
  ofTurn(ref: TurnRef): Promise<ModelCall[]>;
  /** Tokens of all kinds and known costs of all calls of a conversation. */
  ofConversation(tenant: string, conversation: string): Promise<{ tokens: number; costUsd: number }>;
}
