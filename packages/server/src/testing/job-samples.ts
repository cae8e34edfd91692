import { defaultBounds, queryRequest } from '@sallyport/protocol';
import type {
  AuditStore,
  DeliveryStore,
  JobRef,
  JobStore,
  JobTold,
  NewJob,
  NodeStore,
  StoredJob,
} from '../engine/ports.ts';
import { anEntry } from './audit-entries.ts';
import { aDelivery } from './webhook-stores.ts';

/** What jobs need, over one database. */
export interface JobStores {
  readonly jobs: JobStore;
  readonly nodes: NodeStore;
  readonly deliveries: DeliveryStore;
  readonly audit: AuditStore;
}

/** When the jobs of tests are made. */
export const jobAt = 1_700_000_000_000;

/** A job that is due at once. Its prompt is its name. */
export const aJob = (id: string, changes: Partial<NewJob> = {}): NewJob => ({
  tenant: 'default',
  id,
  key: 'key-1',
  request: queryRequest(defaultBounds).parse({ prompt: id }),
  priority: 5,
  runAt: jobAt,
  attempts: 3,
  webhookUrl: null,
  createdAt: jobAt,
  ...changes,
});

/** What is told of a change, with a webhook of the same name. */
export const toldOf = (name: string, tenant = 'default'): JobTold => ({
  audit: anEntry(name, tenant),
  delivery: aDelivery(name, { tenant, body: tenant }),
});

/** Queues jobs one after the other. */
export async function queueJobs({ jobs }: Pick<JobStores, 'jobs'>, ...made: readonly NewJob[]): Promise<void> {
  for (const job of made) await jobs.create(job, 1_000_000, null, anEntry(`made ${job.id}`, job.tenant));
}

/** Takes the next job for a node, at most so many of a tenant at a time. */
export const takeNext = ({ jobs }: Pick<JobStores, 'jobs'>, { node = 'node-1', at = jobAt, perTenant = 0 } = {}) =>
  jobs.take({ node, at, perTenant, conversation: `run at ${at}` });

/** The attempt that was taken. Throws when none was. */
export function taken(job: StoredJob | null): JobRef {
  if (job === null || job.node === null || job.conversation === null) throw new Error('no job was taken');
  const { tenant, id, conversation, node } = job;
  return { tenant, id, conversation, node };
}
