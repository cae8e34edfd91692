import type { ConversationFilter, ConversationStore, StoredConversation } from '../engine/ports.ts';
import type { Selectable } from 'kysely';
import type { Database } from './database.ts';
import type { ConversationTable } from './schema.ts';

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
      return row === undefined ? null : fromRow(row);
    },
    list: (filter) => list(database, filter),
    async delete(tenant, id) {
      const deleted = await database.write((sql) =>
        sql.deleteFrom('conversations').where('tenant', '=', tenant).where('id', '=', id).executeTakeFirst(),
      );
      return deleted.numDeletedRows === 1n;
    },
  };
}

async function list(database: Database, filter: ConversationFilter): Promise<StoredConversation[]> {
  const { tenant, key, kind, before, limit } = filter;
  let query = database.read
    .selectFrom('conversations')
    .selectAll()
    .where('tenant', '=', tenant)
    .where('kind', '=', kind)
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(limit);
  if (key !== null) query = query.where('key', '=', key);
  if (before !== null) {
    query = query.where((where) =>
      where.or([
        where('created_at', '<', before.createdAt),
        where.and([where('created_at', '=', before.createdAt), where('id', '<', before.id)]),
      ]),
    );
  }
  return (await query.execute()).map(fromRow);
}

function fromRow(row: Selectable<ConversationTable>): StoredConversation {
  return {
    tenant: row.tenant,
    id: row.id,
    key: row.key,
    kind: row.kind,
    profile: JSON.parse(row.profile) as StoredConversation['profile'],
    limits: JSON.parse(row.limits) as StoredConversation['limits'],
    sdkSession: row.sdk_session,
    metadata: JSON.parse(row.metadata) as StoredConversation['metadata'],
    createdAt: row.created_at,
    status: row.status,
    lastSeq: row.last_seq,
    lastActiveAt: row.last_active_at,
  };
}
