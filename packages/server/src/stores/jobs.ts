import type { ExpressionBuilder, Transaction } from 'kysely';
import {
  ClaimTakenError,
  TooManyJobsError,
  type AuditEntry,
  type IdempotencyClaim,
  type JobEnd,
  type JobFilter,
  type JobRef,
  type JobRetry,
  type JobStore,
  type JobTold,
  type NewJob,
  type StoredJob,
} from '../engine/ports.ts';
import { appendAudit } from './audit.ts';
import { laneOf, toText, type Database } from './database.ts';
import { takeJob } from './jobs-next.ts';
import { columns, newRow, toJob } from './jobs-rows.ts';
import { isBefore } from './rows.ts';
import type { Schema } from './schema.ts';
import { insertDelivery } from './webhooks.ts';

/** Jobs in SQL. */
export function createJobStore(database: Database): JobStore {
  return {
    create: (job, mostQueued, claim, audit) => create(database, job, mostQueued, claim, audit),
    claimed: (tenant, key, idempotencyKey, now) => claimed(database, { tenant, key, idempotencyKey, now }),
    async get(tenant, id) {
      const row = await database.read
        .selectFrom('jobs')
        .select(columns)
        .where('tenant', '=', tenant)
        .where('id', '=', id)
        .executeTakeFirst();
      return row === undefined ? null : toJob(row);
    },
    list: (filter) => list(database, filter),
    take: (taking) => takeJob(database, taking),
    begun: (ref) => begun(database, ref),
    retry: (ref, retry) => requeue(database, ref, retry),
    finish: (ref, end, told) => finish(database, ref, end, told),
    cancel: (tenant, id, at, told) => cancel(database, { tenant, id }, at, told),
    async cancelRun(tenant, conversation) {
      await database.write((sql) =>
        sql
          .updateTable('jobs')
          .set({ cancelling: 1 })
          .where('tenant', '=', tenant)
          .where('conversation', '=', conversation)
          .where('status', '=', 'running')
          .execute(),
      );
    },
    async request(tenant, id) {
      const row = await database.read
        .selectFrom('jobs')
        .select('request')
        .where('tenant', '=', tenant)
        .where('id', '=', id)
        .executeTakeFirst();
      return row === undefined ? null : (JSON.parse(row.request) as NewJob['request']);
    },
    async running(node) {
      const rows = await database.read
        .selectFrom('jobs')
        .select(columns)
        .where('status', '=', 'running')
        .where('node', '=', node)
        .execute();
      return rows.map(toJob);
    },
    takeLost: (by) => takeLost(database, by),
    sweep: (before, limit) => sweep(database, before, limit),
  };
}

async function claimed(
  database: Database,
  claim: { readonly tenant: string; readonly key: string; readonly idempotencyKey: string; readonly now: number },
): ReturnType<JobStore['claimed']> {
  const row = await database.read
    .selectFrom('jobs')
    .select([...columns, 'claim_hash'])
    .where('tenant', '=', claim.tenant)
    .where('key', '=', claim.key)
    .where('idempotency_key', '=', claim.idempotencyKey)
    .where('claim_expires_at', '>', claim.now)
    .executeTakeFirst();
  return row === undefined ? null : { hash: row.claim_hash ?? '', job: toJob(row) };
}

async function create(
  database: Database,
  job: NewJob,
  mostQueued: number,
  claim: IdempotencyClaim | null,
  audit: AuditEntry,
): Promise<StoredJob> {
  const { tenant, id, createdAt } = job;
  const row = newRow(job, claim);
  await database.write(
    async (sql) => {
      await database.alone(sql, ['jobs of', tenant]);
      if (claim !== null) {
        await sql
          .updateTable('jobs')
          .set({ idempotency_key: null, claim_hash: null, claim_expires_at: null })
          .where('tenant', '=', tenant)
          .where('key', '=', claim.key)
          .where('idempotency_key', '=', claim.idempotencyKey)
          .where('claim_expires_at', '<=', createdAt)
          .execute();
      }
      const inserted = await sql
        .insertInto('jobs')
        .values(row)
        .onConflict((conflict) =>
          conflict.columns(['tenant', 'key', 'idempotency_key']).where('idempotency_key', 'is not', null).doNothing(),
        )
        .executeTakeFirst();
      if (inserted.numInsertedOrUpdatedRows !== 1n) throw new ClaimTakenError();
      const { queued } = await sql
        .selectFrom('jobs')
        .select((count) => count.fn.countAll<number>().as('queued'))
        .where('tenant', '=', tenant)
        .where('status', '=', 'queued')
        .executeTakeFirstOrThrow();
      if (queued > mostQueued) throw new TooManyJobsError();
      await appendAudit(sql, [audit]);
    },
    laneOf(tenant, id),
  );
  return toJob(row);
}

async function list(database: Database, filter: JobFilter): Promise<StoredJob[]> {
  const { tenant, key, status, before, limit } = filter;
  let query = database.read
    .selectFrom('jobs')
    .select(columns)
    .where('tenant', '=', tenant)
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(limit);
  if (key !== null) query = query.where('key', '=', key);
  if (status !== null) query = query.where('status', '=', status);
  if (before !== null) query = query.where(isBefore(before));
  return (await query.execute()).map(toJob);
}

/** The row of a running attempt, as long as it is this one. */
const running = (sql: Transaction<Schema>, { tenant, id, conversation, node }: JobRef) =>
  sql
    .updateTable('jobs')
    .where('tenant', '=', tenant)
    .where('id', '=', id)
    .where('status', '=', 'running')
    .where('conversation', '=', conversation)
    .where('node', '=', node);

/** Only tells clients that the conversation is there: nothing is lost with it. */
async function begun(database: Database, ref: JobRef): Promise<boolean> {
  const changed = await database.writeSoon(
    (sql) => running(sql, ref).set({ begun: 1 }).executeTakeFirst(),
    laneOf(ref.tenant, ref.id),
  );
  return changed.numUpdatedRows === 1n;
}

async function requeue(database: Database, ref: JobRef, { runAt, counts, error, code }: JobRetry): Promise<boolean> {
  const again = { node: null, conversation: null, begun: 0, run_at: runAt, error: toText(error), code } as const;
  const changed = await database.write(
    (sql) =>
      running(sql, ref)
        .set((column) => ({ status: 'queued', ...again, attempt: column('attempt', '-', counts ? 0 : 1) }))
        .where('cancelling', '=', 0)
        .executeTakeFirst(),
    laneOf(ref.tenant, ref.id),
  );
  return changed.numUpdatedRows === 1n;
}

async function finish(
  database: Database,
  ref: JobRef,
  { status, at, begun, error, code }: JobEnd,
  told: JobTold,
): Promise<boolean> {
  return await database.write(
    async (sql) => {
      const end = {
        status,
        node: null,
        begun: begun ? 1 : 0,
        error: error && toText(error),
        code,
        ended_at: at,
      } as const;
      const ended = running(sql, ref).set(end);
      const row = await (status === 'cancelled' ? ended.where('cancelling', '=', 1) : ended).executeTakeFirst();
      if (row.numUpdatedRows !== 1n) return false;
      await tell(sql, told);
      return true;
    },
    laneOf(ref.tenant, ref.id),
  );
}

async function cancel(
  database: Database,
  { tenant, id }: Pick<JobRef, 'tenant' | 'id'>,
  at: number,
  { audit, delivery }: JobTold,
): Promise<StoredJob | null> {
  return await database.write(
    async (sql) => {
      const own = () => sql.updateTable('jobs').where('tenant', '=', tenant).where('id', '=', id);
      // The first change holds the row: what is queued stays so, and what runs cannot be queued again unseen.
      const asked = await own()
        .set({ cancelling: 1 })
        .where('status', 'in', ['queued', 'running'])
        .where('cancelling', '=', 0)
        .returning('status')
        .executeTakeFirst();
      const isQueued = asked?.status === 'queued';
      if (isQueued) await own().set({ status: 'cancelled', ended_at: at }).execute();
      if (asked !== undefined) await tell(sql, { audit, delivery: isQueued ? delivery : null });
      const row = await sql
        .selectFrom('jobs')
        .select(columns)
        .where('tenant', '=', tenant)
        .where('id', '=', id)
        .executeTakeFirst();
      return row === undefined ? null : toJob(row);
    },
    laneOf(tenant, id),
  );
}

/** Writes what is told of a change; the audit log last, as whoever appends to it holds its head. */
async function tell(sql: Transaction<Schema>, { audit, delivery }: JobTold): Promise<void> {
  if (delivery !== null) await insertDelivery(sql, delivery);
  await appendAudit(sql, [audit]);
}

/** Those that run on a node that is gone. */
const isLost = (where: ExpressionBuilder<Schema, 'jobs'>) =>
  where.and([
    where('jobs.status', '=', 'running'),
    where.not(
      where.exists(where.selectFrom('nodes').select('nodes.id').whereRef('nodes.id', '=', where.ref('jobs.node'))),
    ),
  ]);

async function takeLost(database: Database, by: string): Promise<StoredJob[]> {
  const lost = await database.read.selectFrom('jobs').select('id').where(isLost).limit(1).executeTakeFirst();
  if (lost === undefined) return [];
  const rows = await database.write(async (sql) => {
    // Postgres would not look again whether the node is gone when another one has just taken the job over.
    await database.alone(sql, ['jobs']);
    return await sql.updateTable('jobs').set({ node: by }).where(isLost).returning(columns).execute();
  }, 'jobs');
  return rows.map(toJob);
}

async function sweep(database: Database, before: number, limit: number): Promise<number> {
  const deleted = await database.write((sql) =>
    sql
      .deleteFrom('jobs')
      .where((where) =>
        where(
          where.refTuple('tenant', 'id'),
          'in',
          where
            .selectFrom('jobs as old')
            .select(['old.tenant', 'old.id'])
            .where('old.ended_at', '<', before)
            .orderBy('old.ended_at')
            .limit(limit)
            .$asTuple('tenant', 'id'),
        ),
      )
      .executeTakeFirst(),
  );
  return Number(deleted.numDeletedRows);
}
