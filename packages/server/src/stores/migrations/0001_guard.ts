import type { Kysely } from 'kysely';

/** Keys, tenants with the one that is always there, stops, reservations, and the audit log with its head. */
export async function guard(db: Kysely<unknown>): Promise<void> {
  await keys(db);
  await tenants(db);
  await stops(db);
  await reservations(db);
  await audit(db);
}

/** No reference to the tenant: configured ones have no row. */
async function keys(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('keys')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('role', 'text', (column) => column.notNull())
    .addColumn('narrowing', 'text')
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('created_by', 'text', (column) => column.notNull())
    .addColumn('expires_at', 'bigint')
    .addColumn('revoked_at', 'bigint')
    .addColumn('previous_until', 'bigint')
    .addColumn('changed_at', 'bigint')
    .addPrimaryKeyConstraint('keys_key', ['tenant', 'name'])
    .execute();
  await db.schema.createIndex('keys_changed').on('keys').column('changed_at').execute();
  await db.schema
    .createTable('key_secrets')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('key', 'text', (column) => column.notNull())
    .addColumn('current', 'integer', (column) => column.notNull())
    .addColumn('hash', 'text', (column) => column.notNull().unique())
    // A key has one current secret, and one before it at most.
    .addPrimaryKeyConstraint('key_secrets_key', ['tenant', 'key', 'current'])
    .addForeignKeyConstraint('key_secrets_of_key', ['tenant', 'key'], 'keys', ['tenant', 'name'])
    .execute();
}

async function tenants(db: Kysely<{ tenants: { id: string; created_at: number } }>): Promise<void> {
  await db.schema
    .createTable('tenants')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('budgets', 'text')
    .execute();
  await db.insertInto('tenants').values({ id: 'default', created_at: 0 }).execute();
}

async function stops(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('stops')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('tenant', 'text')
    .addColumn('key', 'text')
    .addColumn('conversation', 'text')
    .addColumn('reason', 'text', (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('created_by', 'text', (column) => column.notNull())
    .execute();
}

/** No reference to the turn: it is accepted after it has reserved. */
async function reservations(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('reservations')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('turn', 'text', (column) => column.notNull())
    .addColumn('conversation', 'text', (column) => column.notNull())
    .addColumn('key', 'text', (column) => column.notNull())
    .addColumn('usd', 'double precision', (column) => column.notNull())
    .addPrimaryKeyConstraint('reservations_key', ['tenant', 'turn'])
    .execute();
}

/** No reference to the conversation: what was done stays told when it is deleted. */
async function audit(db: Kysely<{ audit_head: { id: string; seq: number; hash: string } }>): Promise<void> {
  await db.schema
    .createTable('audit')
    .addColumn('seq', 'bigint', (column) => column.primaryKey())
    .addColumn('at', 'bigint', (column) => column.notNull())
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('actor', 'text', (column) => column.notNull())
    .addColumn('action', 'text', (column) => column.notNull())
    .addColumn('conversation', 'text')
    .addColumn('turn', 'text')
    .addColumn('subject', 'text')
    .addColumn('details', 'text', (column) => column.notNull())
    .addColumn('hash', 'text', (column) => column.notNull())
    .execute();
  await db.schema.createIndex('audit_of_tenant').on('audit').columns(['tenant', 'seq']).execute();
  await db.schema
    .createTable('audit_head')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('seq', 'bigint', (column) => column.notNull())
    .addColumn('hash', 'text', (column) => column.notNull())
    .execute();
  await db
    .insertInto('audit_head')
    .values({ id: 'head', seq: 0, hash: '0'.repeat(64) })
    .execute();
}
