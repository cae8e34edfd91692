import type { JobInfo } from '@sallyport/protocol';
import type { Clock } from './clock.ts';
import type { OwnEngine } from './engine.ts';
import type { KeyRing } from './keys.ts';
import type { Lease } from './nodes.ts';
import type { ConversationStore, JobQueue, JobStore, Log, NewDelivery, TurnStore } from './ports.ts';
import type { Stops } from './stops.ts';

/** What jobs are bounded by. */
export interface JobLimits {
  /** Most jobs that this node runs at a time; 0: it runs none. */
  readonly atOnce: number;
  /** Most jobs of a tenant that run at a time, on all nodes together; 0: no bound. */
  readonly perTenant: number;
  /** Most jobs of a tenant that are queued at a time. */
  readonly queued: number;
  /** Milliseconds after its end for which a job can be read. */
  readonly keptMs: number;
}

/** What tells others of the end of a job. */
export interface JobWebhooks {
  /** Rejects where nothing could ever be sent to the address. */
  check(tenant: string, url: string): Promise<void>;
  /** The message that tells of an end. */
  delivery(tenant: string, url: string, job: JobInfo): NewDelivery;
  /** To be called when a message was stored. */
  nudge(): void;
}

/** What jobs are made of. */
export interface JobParts {
  readonly jobs: JobStore;
  readonly turns: Pick<TurnStore, 'read' | 'get'>;
  readonly conversations: Pick<ConversationStore, 'get'>;
  readonly engine: Pick<OwnEngine, 'checkQuery' | 'startJob' | 'stopTurn' | 'events'>;
  readonly keyRing: Pick<KeyRing, 'named'>;
  readonly stops: Pick<Stops, 'check'>;
  readonly queue: JobQueue;
  readonly webhooks: JobWebhooks;
  readonly clock: Clock;
  readonly logger: Log;
  /** What says which node this process is. */
  readonly lease: Pick<Lease, 'node' | 'held'>;
  readonly limits: JobLimits;
}
