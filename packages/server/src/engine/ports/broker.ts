import type { ErrorCode } from '@sallyport/protocol';
import type { ModelCall } from './records.ts';
import type { TurnRef } from './store.ts';

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
  /** Asked before every call, and before every repeated try. When it rejects, no call is passed. */
  readonly mayCall: (spentUsd: number) => Promise<CallVerdict>;
  /** Most answers of the model; a further call is refused. Calls that offer no tools are not counted where the run has tools. */
  readonly maxCalls: number;
  /** True when the run has tools. */
  readonly hasTools: boolean;
  /** True: a model answer holds at most one tool call, so that a pending approval loses no other call. */
  readonly singleToolCalls: boolean;
  /** Answers and spend of the turn before: a turn that was taken over goes on counting. */
  readonly before: { readonly calls: number; readonly spentUsd: number };
  /** True: the process has begun its session by `/clear`. The model is not told of that. */
  readonly cleared: boolean;
  /** No call is passed before it resolves. */
  readonly ready: Promise<unknown>;
  /** Called before each repeated try of a model call. */
  readonly onRetry: (attempt: number, reason: string) => void;
}

/**
 * Whether a call of the model may be made. `alone`: only while the turn makes no other, and only at a known price, as a
 * budget counts it. `no`: a budget is used up.
 */
export type CallVerdict = 'yes' | 'alone' | 'no';

/** The model calls of one turn. */
export interface BrokerTurn {
  readonly calls: readonly ModelCall[];
  /** What the turn has spent, before this process too. */
  spentUsd(): number;
  /** Resolves when the process asks for its first call. */
  readonly asked: Promise<void>;
  /** True once a call was refused because a budget was reached. */
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
  /** Until `bind`, calls of the process are answered without a model: a process that nobody uses yet gets warm that way. */
  answerItself(): void;
  /** Ends all calls of the process at once and forgets the token. */
  revoke(): void;
}

/** What is known of an upstream. Times are wall times in milliseconds. */
export interface UpstreamState {
  readonly name: string;
  /** `open`: it failed so often that nothing is sent there until `until`. `half_open`: the next call tries it. */
  readonly state: 'closed' | 'open' | 'half_open';
  /** Null unless `open`. */
  readonly until: number | null;
  /** Calls under way. */
  readonly calls: number;
  readonly maxCalls: number;
  readonly credentials: readonly {
    /** Its place in the settings, as `key-1`; never a part of the secret. */
    readonly name: string;
    /** `aside`: it is used only where there is no other, until `until`. */
    readonly state: 'ready' | 'aside';
    /** Why it is put aside. */
    readonly code: ErrorCode | null;
    readonly until: number | null;
  }[];
}

/** The only way from a process to the model. */
export interface Broker {
  /** Unix socket that speaks the Messages API. */
  readonly socketPath: string;
  issue(): BrokerPass;
  /** How the last call ended, and whether any can be made; never a call. */
  health(): { readonly ok: boolean; readonly code: ErrorCode | null };
  /** The last known state of each upstream and its keys, in the order in which they are used. */
  upstreams(): readonly UpstreamState[];
  close(): Promise<void>;
}
