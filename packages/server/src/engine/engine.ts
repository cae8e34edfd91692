import type { ClaudeMessage, QueryRequest, RunResult, StreamItem } from '@sallyport/protocol';
import type { Clock } from './clock.ts';
import type { SallyportError } from './errors.ts';
import type { PolicySettings } from './policy.ts';
import type { Log, Runner, TurnStore } from './ports.ts';
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
}

/** What the transports call. */
export interface Engine {
  /**
   * Accepts a one-shot query and starts it. Rejects, with nothing run and nothing stored, with `validation_failed`,
   * `model_not_allowed`, `path_not_allowed`, `not_ready` or `storage_full`.
   */
  startQuery(principal: Principal, request: QueryRequest, context: RunContext): Promise<RunningTurn>;
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
  readonly runner: Runner;
  readonly clock: Clock;
  readonly logger: Log;
  readonly policy: PolicySettings;
  readonly workspaceRoots: readonly string[];
  /** True for the service's own directories, which no run may have as its workspace. */
  readonly isProtected: (path: string) => boolean;
}
