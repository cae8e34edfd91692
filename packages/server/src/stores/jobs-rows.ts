import type { Selectable } from 'kysely';
import type { IdempotencyClaim, NewJob, StoredJob } from '../engine/ports.ts';
import { toJson } from './database.ts';
import type { JobTable } from './schema-jobs.ts';

/** The columns that `toJob` reads: not the request, which may be large. */
export const columns = [
  'tenant',
  'id',
  'key',
  'priority',
  'run_at',
  'attempts',
  'webhook_url',
  'created_at',
  'status',
  'attempt',
  'node',
  'conversation',
  'begun',
  'cancelling',
  'error',
  'code',
  'started_at',
  'ended_at',
] as const satisfies readonly (keyof JobTable)[];

/** The row of a job that is queued. */
export function newRow(job: NewJob, claim: IdempotencyClaim | null): JobTable {
  return {
    tenant: job.tenant,
    id: job.id,
    key: job.key,
    request: toJson(job.request),
    priority: job.priority,
    run_at: job.runAt,
    attempts: job.attempts,
    webhook_url: job.webhookUrl,
    created_at: job.createdAt,
    status: 'queued',
    attempt: 0,
    node: null,
    conversation: null,
    begun: 0,
    cancelling: 0,
    error: null,
    code: null,
    started_at: null,
    ended_at: null,
    idempotency_key: claim?.idempotencyKey ?? null,
    claim_hash: claim?.hash ?? null,
    claim_expires_at: claim?.expiresAt ?? null,
  };
}

export function toJob(row: Pick<Selectable<JobTable>, (typeof columns)[number]>): StoredJob {
  return {
    tenant: row.tenant,
    id: row.id,
    key: row.key,
    priority: row.priority,
    runAt: row.run_at,
    attempts: row.attempts,
    webhookUrl: row.webhook_url,
    createdAt: row.created_at,
    status: row.status,
    attempt: row.attempt,
    node: row.node,
    conversation: row.conversation,
    begun: row.begun === 1,
    cancelling: row.cancelling === 1,
    error: row.error,
    code: row.code as StoredJob['code'],
    startedAt: row.started_at,
    endedAt: row.ended_at,
  };
}
