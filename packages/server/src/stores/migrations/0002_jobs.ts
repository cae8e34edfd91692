import { sql, type Kysely } from 'kysely';

/** Jobs. No reference to the conversation: either may be deleted before the other. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('jobs')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('id', 'text', (column) => column.notNull())
    .addColumn('key', 'text', (column) => column.notNull())
    .addColumn('request', 'text', (column) => column.notNull())
    .addColumn('priority', 'integer', (column) => column.notNull())
    .addColumn('run_at', 'bigint', (column) => column.notNull())
    .addColumn('attempts', 'integer', (column) => column.notNull())
    .addColumn('webhook_url', 'text')
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('status', 'text', (column) => column.notNull())
    .addColumn('attempt', 'integer', (column) => column.notNull())
    .addColumn('node', 'text')
    .addColumn('conversation', 'text')
    .addColumn('begun', 'integer', (column) => column.notNull())
    .addColumn('cancelling', 'integer', (column) => column.notNull())
    .addColumn('error', 'text')
    .addColumn('code', 'text')
    .addColumn('started_at', 'bigint')
    .addColumn('ended_at', 'bigint')
    .addColumn('idempotency_key', 'text')
    .addColumn('claim_hash', 'text')
    .addColumn('claim_expires_at', 'bigint')
    .addPrimaryKeyConstraint('jobs_key', ['tenant', 'id'])
    .execute();
  const index = (name: string, columns: string[]) => db.schema.createIndex(name).on('jobs').columns(columns).execute();
  await index('jobs_listed', ['tenant', 'created_at', 'id']);
  // Which tenants have a job that is due, and how many of each run.
  await index('jobs_due', ['status', 'run_at', 'tenant']);
  await index('jobs_of_status', ['tenant', 'status', 'priority', 'run_at']);
  await index('jobs_served', ['tenant', 'started_at']);
  await db.schema
    .createIndex('jobs_ended')
    .on('jobs')
    .column('ended_at')
    .where(sql.ref('ended_at'), 'is not', null)
    .execute();
  await db.schema
    .createIndex('jobs_claimed')
    .unique()
    .on('jobs')
    .columns(['tenant', 'key', 'idempotency_key'])
    .where(sql.ref('idempotency_key'), 'is not', null)
    .execute();
}
