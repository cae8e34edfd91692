import type { ApprovalDesk } from './approval-desk.ts';
import type { Clock } from './clock.ts';
import type { PolicySettings } from './policy.ts';
import type {
  ApprovalStore,
  ImageStore,
  Log,
  ModelCall,
  RunHost,
  Runner,
  RunOrder,
  TurnCounters,
  TurnStore,
} from './ports.ts';
import type { Remains } from './recovery.ts';
import type { TurnLog } from './turn-log.ts';

/** What one turn is run with. */
export interface TurnParts {
  readonly runner: Runner;
  readonly turns: TurnStore;
  readonly approvals: ApprovalStore;
  readonly images: ImageStore;
  readonly desk: ApprovalDesk;
  readonly log: TurnLog;
  readonly clock: Clock;
  readonly logger: Log;
  readonly policy: PolicySettings;
  readonly approvalHoldSeconds: number;
  readonly approvalTtlSeconds: number;
  readonly order: RunOrder;
  readonly requestId: string;
  readonly maxTurns: number;
  readonly timeoutSeconds: number;
  /** True: the time in which a human is awaited counts toward the timeout. */
  readonly waitingCounts: boolean;
  /** Set when an earlier process of the service ran the turn and lost it. */
  readonly earlier: { readonly counters: TurnCounters; readonly calls: readonly ModelCall[] } | null;
  readonly mayCall: RunHost['mayCall'];
  /** The turn's own events so far. */
  readonly events: () => Promise<Remains['events']>;
}
