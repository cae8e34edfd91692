import { sql, type Kysely } from 'kysely';
import { guard } from './0001_guard.ts';

/** Conversations with all that belongs to them, transcripts, metered model calls, tickets, and what guards them. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await conversations(db);
  await turns(db);
  await events(db);
  await claims(db);
  await approvals(db);
  await images(db);
  await transcripts(db);
  await usage(db);
  await usageDays(db);
  await tickets(db);
  await guard(db);
  await db.schema
    .createTable('write_checks')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('at', 'bigint', (column) => column.notNull())
    .execute();
}

async function conversations(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('conversations')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('id', 'text', (column) => column.notNull())
    .addColumn('key', 'text', (column) => column.notNull())
    .addColumn('kind', 'text', (column) => column.notNull())
    .addColumn('status', 'text', (column) => column.notNull())
    .addColumn('epoch', 'bigint', (column) => column.notNull())
    .addColumn('last_seq', 'bigint', (column) => column.notNull())
    .addColumn('profile', 'text', (column) => column.notNull())
    .addColumn('limits', 'text', (column) => column.notNull())
    .addColumn('sdk_session', 'text', (column) => column.notNull())
    .addColumn('metadata', 'text', (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('last_active_at', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('conversations_key', ['tenant', 'id'])
    // Two conversations on one session of Claude Code would fork its transcript unseen.
    .addUniqueConstraint('conversations_session', ['tenant', 'sdk_session'])
    .execute();
  await db.schema
    .createIndex('conversations_listed')
    .on('conversations')
    .columns(['tenant', 'kind', 'created_at', 'id'])
    .execute();
  await db.schema.createIndex('conversations_aged').on('conversations').columns(['status', 'last_active_at']).execute();
}

async function turns(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('turns')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('id', 'text', (column) => column.notNull())
    .addColumn('conversation', 'text', (column) => column.notNull())
    .addColumn('epoch', 'bigint', (column) => column.notNull())
    .addColumn('state', 'text', (column) => column.notNull())
    .addColumn('request', 'text', (column) => column.notNull())
    .addColumn('batches', 'bigint', (column) => column.notNull())
    .addColumn('active_ms', 'bigint', (column) => column.notNull())
    .addColumn('result', 'text')
    .addColumn('code', 'text')
    .addColumn('accepted_at', 'bigint', (column) => column.notNull())
    .addColumn('started_at', 'bigint')
    .addColumn('ended_at', 'bigint')
    .addPrimaryKeyConstraint('turns_key', ['tenant', 'id'])
    .addForeignKeyConstraint(
      'turns_conversation',
      ['tenant', 'conversation'],
      'conversations',
      ['tenant', 'id'],
      (constraint) => constraint.onDelete('cascade'),
    )
    .execute();
  await db.schema.createIndex('turns_of_conversation').on('turns').columns(['tenant', 'conversation']).execute();
  // Finds the turns to recover, and lets a conversation have one of them at most.
  await db.schema
    .createIndex('turns_unfinished')
    .unique()
    .on('turns')
    .columns(['tenant', 'conversation'])
    .where(sql.ref('ended_at'), 'is', null)
    .execute();
}

async function events(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('events')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('conversation', 'text', (column) => column.notNull())
    .addColumn('seq', 'bigint', (column) => column.notNull())
    .addColumn('turn', 'text', (column) => column.notNull())
    .addColumn('at', 'bigint', (column) => column.notNull())
    .addColumn('type', 'text', (column) => column.notNull())
    .addColumn('payload', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('events_key', ['tenant', 'conversation', 'seq'])
    .addForeignKeyConstraint(
      'events_conversation',
      ['tenant', 'conversation'],
      'conversations',
      ['tenant', 'id'],
      (constraint) => constraint.onDelete('cascade'),
    )
    .execute();
}

async function claims(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('claims')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('key', 'text', (column) => column.notNull())
    .addColumn('idempotency_key', 'text', (column) => column.notNull())
    .addColumn('hash', 'text', (column) => column.notNull())
    .addColumn('turn', 'text', (column) => column.notNull())
    .addColumn('expires_at', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('claims_key', ['tenant', 'key', 'idempotency_key'])
    .addUniqueConstraint('claims_turn', ['tenant', 'turn'])
    .addForeignKeyConstraint('claims_of_turn', ['tenant', 'turn'], 'turns', ['tenant', 'id'], (constraint) =>
      constraint.onDelete('cascade'),
    )
    .execute();
  await db.schema.createIndex('claims_expiry').on('claims').column('expires_at').execute();
}

async function approvals(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('approvals')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('id', 'text', (column) => column.notNull())
    .addColumn('conversation', 'text', (column) => column.notNull())
    .addColumn('turn', 'text', (column) => column.notNull())
    .addColumn('tool_use_id', 'text', (column) => column.notNull())
    .addColumn('key', 'text', (column) => column.notNull())
    .addColumn('call', 'text', (column) => column.notNull())
    .addColumn('status', 'text', (column) => column.notNull())
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('expires_at', 'bigint', (column) => column.notNull())
    .addColumn('decided_at', 'bigint')
    .addColumn('decided_by', 'text')
    .addColumn('decision', 'text')
    .addPrimaryKeyConstraint('approvals_key', ['tenant', 'id'])
    .addUniqueConstraint('approvals_call', ['tenant', 'turn', 'tool_use_id'])
    .addForeignKeyConstraint('approvals_turn', ['tenant', 'turn'], 'turns', ['tenant', 'id'], (constraint) =>
      constraint.onDelete('cascade'),
    )
    .execute();
  const index = (name: string, columns: string[]) =>
    db.schema.createIndex(name).on('approvals').columns(columns).execute();
  await index('approvals_listed', ['tenant', 'created_at', 'id']);
  await index('approvals_listed_by_status', ['tenant', 'status', 'created_at', 'id']);
  await index('approvals_of_turn', ['tenant', 'turn', 'created_at', 'id']);
  await index('approvals_of_conversation', ['tenant', 'conversation', 'status']);
  await index('approvals_expiry', ['status', 'expires_at']);
  await index('approvals_settled', ['decided_at']);
}

async function images(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('images')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('conversation', 'text', (column) => column.notNull())
    .addColumn('path', 'text', (column) => column.notNull())
    .addColumn('before', 'text', (column) => column.notNull())
    .addColumn('after', 'text', (column) => column.notNull())
    .addColumn('settled', 'integer', (column) => column.notNull())
    .addPrimaryKeyConstraint('images_key', ['tenant', 'conversation', 'path'])
    .addForeignKeyConstraint(
      'images_conversation',
      ['tenant', 'conversation'],
      'conversations',
      ['tenant', 'id'],
      (constraint) => constraint.onDelete('cascade'),
    )
    .execute();
}

async function tickets(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('tickets')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('hash', 'text', (column) => column.notNull().unique())
    .addColumn('key', 'text', (column) => column.notNull())
    .addColumn('secret_hash', 'text')
    .addColumn('expires_at', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('tickets_key', ['tenant', 'hash'])
    .execute();
  await db.schema.createIndex('tickets_expiry').on('tickets').column('expires_at').execute();
}

async function transcripts(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('transcripts')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('session', 'text', (column) => column.notNull())
    .addColumn('subpath', 'text', (column) => column.notNull())
    .addColumn('position', 'bigint', (column) => column.notNull())
    .addColumn('uuid', 'text')
    .addColumn('entry', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('transcripts_key', ['tenant', 'session', 'subpath', 'position'])
    .execute();
  await db.schema
    .createIndex('transcripts_uuid')
    .unique()
    .on('transcripts')
    .columns(['tenant', 'session', 'subpath', 'uuid'])
    .where(sql.ref('uuid'), 'is not', null)
    .execute();
}

/** No reference to the turn: what was spent is kept when the conversation is deleted. */
async function usage(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('usage')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('id', 'text', (column) => column.notNull())
    .addColumn('conversation', 'text', (column) => column.notNull())
    .addColumn('turn', 'text', (column) => column.notNull())
    .addColumn('epoch', 'bigint', (column) => column.notNull())
    .addColumn('key', 'text', (column) => column.notNull())
    .addColumn('at', 'bigint', (column) => column.notNull())
    .addColumn('model', 'text', (column) => column.notNull())
    .addColumn('input_tokens', 'bigint', (column) => column.notNull())
    .addColumn('output_tokens', 'bigint', (column) => column.notNull())
    .addColumn('cache_read_tokens', 'bigint', (column) => column.notNull())
    .addColumn('cache_write_tokens', 'bigint', (column) => column.notNull())
    .addColumn('cost_usd', 'double precision')
    .addColumn('status', 'integer', (column) => column.notNull())
    .addColumn('duration_ms', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('usage_key', ['tenant', 'id'])
    .execute();
  await db.schema.createIndex('usage_turn').on('usage').columns(['tenant', 'turn', 'at']).execute();
  await db.schema.createIndex('usage_conversation').on('usage').columns(['tenant', 'conversation']).execute();
}

async function usageDays(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('usage_days')
    .addColumn('tenant', 'text', (column) => column.notNull())
    .addColumn('key', 'text', (column) => column.notNull())
    .addColumn('day', 'text', (column) => column.notNull())
    .addColumn('model', 'text', (column) => column.notNull())
    .addColumn('calls', 'bigint', (column) => column.notNull())
    .addColumn('input_tokens', 'bigint', (column) => column.notNull())
    .addColumn('output_tokens', 'bigint', (column) => column.notNull())
    .addColumn('cache_read_tokens', 'bigint', (column) => column.notNull())
    .addColumn('cache_write_tokens', 'bigint', (column) => column.notNull())
    .addColumn('cost_usd', 'double precision', (column) => column.notNull())
    .addColumn('unpriced_calls', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('usage_days_key', ['tenant', 'key', 'day', 'model'])
    .execute();
  // For all keys of a tenant, and for all tenants.
  await db.schema.createIndex('usage_days_of_tenant').on('usage_days').columns(['tenant', 'day']).execute();
  await db.schema.createIndex('usage_days_of_all').on('usage_days').column('day').execute();
}
