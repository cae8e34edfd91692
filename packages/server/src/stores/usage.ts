import type { Selectable } from 'kysely';
import type { ModelCall, UsageStore } from '../engine/ports.ts';
import type { Database } from './database.ts';
import type { UsageTable } from './schema.ts';

/**
 * Metered model calls in SQL. A call that is recorded again is the same call, and a stale epoch is no reason to refuse
 * one: it was spent.
 */
export function createUsageStore(database: Database): UsageStore {
  return {
    async record(call) {
      const row = toRow(call);
      await database.write((sql) =>
        sql
          .insertInto('usage')
          .values(row)
          .onConflict((conflict) => conflict.columns(['tenant', 'id']).doNothing())
          .execute(),
      );
    },
    async ofTurn({ tenant, conversation, turn }) {
      const rows = await database.read
        .selectFrom('usage')
        .selectAll()
        .where('tenant', '=', tenant)
        .where('turn', '=', turn)
        .where('conversation', '=', conversation)
        .orderBy('at')
        .orderBy('id')
        .execute();
      return rows.map(toCall);
    },
    async ofConversation(tenant, conversation) {
      const columns = ['input_tokens', 'output_tokens', 'cache_read_tokens', 'cache_write_tokens'] as const;
      const sums = await database.read
        .selectFrom('usage')
        .select(({ fn }) => columns.map((column) => fn.sum<number | null>(column).as(column)))
        .select(({ fn }) => fn.sum<number | null>('cost_usd').as('cost'))
        .where('tenant', '=', tenant)
        .where('conversation', '=', conversation)
        .executeTakeFirstOrThrow();
      return {
        tokens: columns.reduce((total, column) => total + (sums[column] ?? 0), 0),
        costUsd: sums.cost ?? 0,
      };
    },
  };
}

function toRow({ id, ref, key, at, model, usage, costUsd, status, durationMs }: ModelCall): UsageTable {
  return {
    tenant: ref.tenant,
    id,
    conversation: ref.conversation,
    turn: ref.turn,
    epoch: ref.epoch,
    key,
    at,
    model,
    input_tokens: usage.input_tokens,
    output_tokens: usage.output_tokens,
    cache_read_tokens: usage.cache_read_tokens,
    cache_write_tokens: usage.cache_write_tokens,
    cost_usd: costUsd,
    status,
    duration_ms: Math.round(durationMs),
  };
}

function toCall(row: Selectable<UsageTable>): ModelCall {
  const { tenant, conversation, turn, epoch, id, key, at, model, status } = row;
  const { input_tokens, output_tokens, cache_read_tokens, cache_write_tokens } = row;
  return {
    id,
    ref: { tenant, conversation, turn, epoch },
    key,
    at,
    model,
    usage: { input_tokens, output_tokens, cache_read_tokens, cache_write_tokens },
    costUsd: row.cost_usd,
    status,
    durationMs: row.duration_ms,
  };
}
