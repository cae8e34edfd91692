import { sql, type RawBuilder, type Selectable, type SqlBool } from 'kysely';
import type { ConversationRecord, StoredConversation, StoredTurn } from '../engine/ports.ts';
import { toJson } from './database.ts';
import type { ConversationTable, TurnTable } from './schema.ts';

/** True of rows that come after a place in an order by creation, the newest first. */
export const isBefore = ({ createdAt, id }: { readonly createdAt: number; readonly id: string }): RawBuilder<SqlBool> =>
  sql`(created_at, id) < (${createdAt}, ${id})`;

/** The columns of a conversation that never change. */
export function conversationRow(conversation: ConversationRecord) {
  return {
    tenant: conversation.tenant,
    id: conversation.id,
    key: conversation.key,
    kind: conversation.kind,
    profile: toJson(conversation.profile),
    limits: toJson(conversation.limits),
    sdk_session: conversation.sdkSession,
    metadata: toJson(conversation.metadata),
    created_at: conversation.createdAt,
  };
}

export function toConversation(row: Selectable<ConversationTable>): StoredConversation {
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
    epoch: row.epoch,
    lastSeq: row.last_seq,
    lastActiveAt: row.last_active_at,
  };
}

export function toTurn(row: Selectable<TurnTable>): StoredTurn {
  return {
    ref: { tenant: row.tenant, conversation: row.conversation, turn: row.id, epoch: row.epoch },
    state: row.state,
    request: JSON.parse(row.request) as unknown,
    acceptedAt: row.accepted_at,
    batches: row.batches,
    activeMs: row.active_ms,
    result: row.result === null ? null : (JSON.parse(row.result) as StoredTurn['result']),
    code: row.code as StoredTurn['code'],
  };
}
