import type { Settings } from './config/settings.ts';
import { BullQueue } from './coordination/queue-bullmq.ts';
import { LocalQueue } from './coordination/queue-local.ts';
import { redisPrefix } from './coordination/redis.ts';
import { systemClock } from './engine/clock.ts';
import type { OwnEngine } from './engine/engine.ts';
import { createJobs, type Jobs } from './engine/jobs.ts';
import type { JobWebhooks } from './engine/jobs-parts.ts';
import { JobWorker } from './engine/jobs-worker.ts';
import type { KeyRing } from './engine/keys.ts';
import type { Lease } from './engine/nodes.ts';
import type { JobQueue, Log } from './engine/ports.ts';
import type { Stops } from './engine/stops.ts';
import type { Stores } from './stores/stores.ts';

/** What jobs take from the other parts. */
export interface JobNeeds {
  readonly engine: OwnEngine;
  readonly keyRing: KeyRing;
  readonly stops: Stops;
  readonly webhooks: JobWebhooks;
  readonly logger: Log;
  readonly lease: Lease;
}

const dayMs = 86_400_000;

function queueOf({ redisUrl: url }: Pick<Settings, 'redisUrl'>, logger: Log): JobQueue {
  if (url === null) return new LocalQueue(systemClock);
  return new BullQueue({ url, prefix: `${redisPrefix(url)}bullmq`, clock: systemClock, logger });
}

/** Makes the jobs of this node. The worker is not started yet. */
export function composeJobs(settings: Settings, stores: Stores, needs: JobNeeds): { jobs: Jobs; worker: JobWorker } {
  const { conversationTtlSeconds, retentionDays, jobsAtOnce, jobsPerTenant, maxQueuedJobs } = settings;
  const parts = {
    ...needs,
    jobs: stores.jobs,
    turns: stores.turns,
    conversations: stores.conversations,
    queue: queueOf(settings, needs.logger),
    clock: systemClock,
    limits: {
      atOnce: jobsAtOnce,
      perTenant: jobsPerTenant,
      queued: maxQueuedJobs,
      // Its conversation can be read for as long.
      keptMs: conversationTtlSeconds * 1000 + retentionDays * dayMs,
    },
  };
  const worker = new JobWorker(parts);
  return { jobs: createJobs(parts, () => void worker.look()), worker };
}
