import type { Transaction } from 'kysely';
import {
  ConversationExistsError,
  type ConversationFilter,
  type ConversationHead,
  type ConversationStore,
  type Fork,
  type StoredConversation,
} from '../engine/ports.ts';
import { toJson, type Database } from './database.ts';
import { isBefore, toConversation } from './rows.ts';
import type { Schema } from './schema.ts';

/** Conversations as a whole, in SQL. Their turns and events are written by the turn store. */
export function createConversationStore(database: Database): ConversationStore {
  return {
    async get(tenant, id) {
      const row = await database.read
        .selectFrom('conversations')
        .selectAll()
        .where('tenant', '=', tenant)
        .where('id', '=', id)
        .executeTakeFirst();
      return row === undefined ? null : toConversation(row);
    },
    heads: (tenant, ids) => heads(database, tenant, ids),
    list: (filter) => list(database, filter),
    async delete(tenant, id) {
      const deleted = await database.write((sql) =>
        sql.deleteFrom('conversations').where('tenant', '=', tenant).where('id', '=', id).executeTakeFirst(),
      );
      return deleted.numDeletedRows === 1n;
    },
    fork: (made) => database.write((sql) => fork(sql, made)),
    async end(tenant, id) {
      const ended = await database.write((sql) =>
        sql
          .updateTable('conversations')
          .set({ status: 'ended' })
          .where('tenant', '=', tenant)
          .where('id', '=', id)
          .where('status', '=', 'idle')
          .executeTakeFirst(),
      );
      if (ended.numUpdatedRows === 1n) return true;
      const row = await database.read
        .selectFrom('conversations')
        .select('status')
        .where('tenant', '=', tenant)
        .where('id', '=', id)
        .executeTakeFirst();
      return row?.status !== 'running' && row?.status !== 'waiting' && row?.status !== 'idle';
    },
    endIdle: (before, limit) => endIdle(database, before, limit),
    async listEnded(before, limit) {
      const rows = await database.read
        .selectFrom('conversations')
        .select(['tenant', 'id', 'sdk_session'])
        .where('status', '=', 'ended')
        .where('last_active_at', '<', before)
        .orderBy('last_active_at')
        .limit(limit)
        .execute();
      return rows.map(toNamed);
    },
    bury: (tenant, id) => database.write((sql) => bury(sql, tenant, id)),
  };
}

/** Ids of one statement: SQLite takes some 32,000 values. */
const idsAtOnce = 1000;

async function heads(database: Database, tenant: string, ids: readonly string[]): Promise<ConversationHead[]> {
  const found: ConversationHead[] = [];
  for (let from = 0; from < ids.length; from += idsAtOnce) {
    const rows = await database.read
      .selectFrom('conversations')
      .select(['id', 'sdk_session as sdkSession', 'status', 'last_seq as lastSeq'])
      .where('tenant', '=', tenant)
      .where('id', 'in', ids.slice(from, from + idsAtOnce))
      .execute();
    found.push(...rows);
  }
  return found;
}

async function list(database: Database, filter: ConversationFilter): Promise<StoredConversation[]> {
  const { tenant, key, kind, before, limit } = filter;
  let query = database.read
    .selectFrom('conversations')
    .selectAll()
    .where('tenant', '=', tenant)
    .where('kind', '=', kind)
    .where('status', '!=', 'gone')
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(limit);
  if (key !== null) query = query.where('key', '=', key);
  if (before !== null) query = query.where(isBefore(before));
  return (await query.execute()).map(toConversation);
}

async function fork(sql: Transaction<Schema>, { tenant, from, epoch, id, key, sdkSession, at }: Fork) {
  // Changes nothing, but no turn can begin before the past is copied.
  const source = await sql
    .updateTable('conversations')
    .set({ epoch })
    .where('tenant', '=', tenant)
    .where('id', '=', from)
    .where('epoch', '=', epoch)
    .where('status', 'in', ['idle', 'ended'])
    .returningAll()
    .executeTakeFirst();
  if (source === undefined) return null;
  const made = await sql
    .insertInto('conversations')
    .values({
      ...source,
      id,
      key,
      kind: 'conversation',
      status: 'idle',
      epoch: 1,
      sdk_session: sdkSession,
      created_at: at,
      last_active_at: at,
    })
    .onConflict((conflict) => conflict.columns(['tenant', 'id']).doNothing())
    .returningAll()
    .executeTakeFirst();
  if (made === undefined) throw new ConversationExistsError(id);
  await copyPast(sql, tenant, from, id);
  return toConversation(made);
}

async function copyPast(sql: Transaction<Schema>, tenant: string, from: string, to: string): Promise<void> {
  await sql
    .insertInto('events')
    .columns(['tenant', 'conversation', 'seq', 'turn', 'at', 'type', 'payload'])
    .expression((past) =>
      past
        .selectFrom('events')
        .select((column) => ['tenant', column.val(to).as('conversation'), 'seq', 'turn', 'at', 'type', 'payload'])
        .where('tenant', '=', tenant)
        .where('conversation', '=', from),
    )
    .execute();
  await sql
    .insertInto('images')
    .columns(['tenant', 'conversation', 'path', 'before', 'after', 'settled'])
    .expression((past) =>
      past
        .selectFrom('images')
        .select((column) => ['tenant', column.val(to).as('conversation'), 'path', 'before', 'after', 'settled'])
        .where('tenant', '=', tenant)
        .where('conversation', '=', from),
    )
    .execute();
}

const toNamed = ({ tenant, id, sdk_session }: { tenant: string; id: string; sdk_session: string }) => ({
  tenant,
  id,
  sdkSession: sdk_session,
});

async function endIdle(database: Database, before: number, limit: number): ReturnType<ConversationStore['endIdle']> {
  const rows = await database.write((sql) =>
    sql
      .updateTable('conversations')
      .set({ status: 'ended' })
      .where('status', '=', 'idle')
      .where('last_active_at', '<', before)
      .where((where) =>
        where(
          where.refTuple('tenant', 'id'),
          'in',
          where
            .selectFrom('conversations as old')
            .select(['old.tenant', 'old.id'])
            .where('old.status', '=', 'idle')
            .where('old.last_active_at', '<', before)
            .orderBy('old.last_active_at')
            .limit(limit)
            .$asTuple('tenant', 'id'),
        ),
      )
      .returning(['tenant', 'id', 'sdk_session'])
      .execute(),
  );
  return rows.map(toNamed);
}

/** What the client put into the row goes too: its system prompt, its output schema and its metadata. */
async function bury(sql: Transaction<Schema>, tenant: string, id: string): Promise<boolean> {
  const row = await sql
    .updateTable('conversations')
    .set({ status: 'gone', metadata: toJson({}) })
    .where('tenant', '=', tenant)
    .where('id', '=', id)
    .where('status', '=', 'ended')
    .returning('profile')
    .executeTakeFirst();
  if (row === undefined) return false;
  const profile = JSON.parse(row.profile) as StoredConversation['profile'];
  await sql
    .updateTable('conversations')
    .set({ profile: toJson({ ...profile, systemPrompt: null, outputSchema: null }) })
    .where('tenant', '=', tenant)
    .where('id', '=', id)
    .execute();
  // Claims and approvals go with their turns.
  for (const table of ['turns', 'events', 'images'] as const) {
    await sql.deleteFrom(table).where('tenant', '=', tenant).where('conversation', '=', id).execute();
  }
  return true;
}
