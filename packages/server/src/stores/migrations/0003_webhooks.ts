import type { Kysely } from 'kysely';

/** Messages to receivers, and the secrets they are signed with. No reference to the tenant: configured ones have no row. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('deliveries')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('id', 'text', (column) => column.notNull())
    .addColumn('type', 'text', (column) => column.notNull())
    .addColumn('job', 'text', (column) => column.notNull())
    .addColumn('url', 'text', (column) => column.notNull())
    .addColumn('host', 'text', (column) => column.notNull())
    .addColumn('body', 'text', (column) => column.notNull())
    .addColumn('state', 'text', (column) => column.notNull())
    .addColumn('tries', 'integer', (column) => column.notNull())
    .addColumn('due_at', 'bigint')
    .addColumn('status', 'integer')
    .addColumn('problem', 'text')
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('ended_at', 'bigint')
    .addPrimaryKeyConstraint('deliveries_key', ['tenant', 'id'])
    .execute();
  await db.schema.createIndex('deliveries_due').on('deliveries').column('due_at').execute();
  await db.schema.createIndex('deliveries_ended').on('deliveries').column('ended_at').execute();
  const newest = ['tenant', 'created_at', 'id'];
  await db.schema.createIndex('deliveries_newest').on('deliveries').columns(newest).execute();
  await db.schema
    .createTable('webhook_secrets')
    .addColumn('tenant', 'text', (column) => column.primaryKey())
    .addColumn('sealed', 'text', (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('created_by', 'text', (column) => column.notNull())
    .addColumn('previous', 'text')
    .addColumn('previous_until', 'bigint')
    .execute();
}
