import type { Selectable, Transaction } from 'kysely';
import type { DayUsage, ModelCall, UsageQuery, UsageStore } from '../engine/ports.ts';
import type { Database } from './database.ts';
import type { Schema, UsageDayTable, UsageTable } from './schema.ts';

/**
 * Metered model calls in SQL. A call that is recorded again is the same call, and a stale epoch is no reason to refuse
 * one: it was spent.
 */
export function createUsageStore(database: Database): UsageStore {
  return {
    record: (call) => record(database, call),
    byDay: (query) => byDay(database, query),
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

/** Names what a tenant has spent and reserved: who reads its sums to change it is alone with it. */
export const budgetOf = (tenant: string): string[] => ['budget', tenant];

/** The day of UTC that a time is in, as `2026-11-21`. */
export const utcDay = (at: number): string => new Date(at).toISOString().slice(0, 10);

async function record(database: Database, call: ModelCall): Promise<void> {
  const row = toRow(call);
  const day = toDay(call);
  await database.writeSoon(async (sql) => {
    await database.alone(sql, budgetOf(row.tenant));
    const inserted = await sql
      .insertInto('usage')
      .values(row)
      .onConflict((conflict) => conflict.columns(['tenant', 'id']).doNothing())
      .executeTakeFirst();
    if (inserted.numInsertedOrUpdatedRows !== 1n) return;
    await addToDay(sql, day);
    if (row.cost_usd !== null) await lessenReservation(sql, row, row.cost_usd);
  });
}

async function addToDay(sql: Transaction<Schema>, day: UsageDayTable): Promise<void> {
  await sql
    .insertInto('usage_days')
    .values(day)
    .onConflict((conflict) =>
      conflict.columns(['tenant', 'key', 'day', 'model']).doUpdateSet((column) => ({
        calls: column('usage_days.calls', '+', column.ref('excluded.calls')),
        input_tokens: column('usage_days.input_tokens', '+', column.ref('excluded.input_tokens')),
        output_tokens: column('usage_days.output_tokens', '+', column.ref('excluded.output_tokens')),
        cache_read_tokens: column('usage_days.cache_read_tokens', '+', column.ref('excluded.cache_read_tokens')),
        cache_write_tokens: column('usage_days.cache_write_tokens', '+', column.ref('excluded.cache_write_tokens')),
        cost_usd: column('usage_days.cost_usd', '+', column.ref('excluded.cost_usd')),
        unpriced_calls: column('usage_days.unpriced_calls', '+', column.ref('excluded.unpriced_calls')),
      })),
    )
    .execute();
}

async function lessenReservation(
  sql: Transaction<Schema>,
  { tenant, conversation, turn }: UsageTable,
  cost: number,
): Promise<void> {
  await sql
    .updateTable('reservations')
    .set((column) => ({
      usd: column
        .case()
        .when('usd', '>', cost)
        .then(column('usd', '-', cost))
        .else(column.lit(0))
        .end(),
    }))
    .where('tenant', '=', tenant)
    .where('turn', '=', turn)
    .where('conversation', '=', conversation)
    .execute();
}

async function byDay(database: Database, { tenant, key, from, to }: UsageQuery): Promise<DayUsage[]> {
  let query = database.read
    .selectFrom('usage_days')
    .selectAll()
    .where('day', '>=', from)
    .where('day', '<=', to)
    .orderBy('day', 'desc')
    .orderBy('tenant')
    .orderBy('key')
    .orderBy('model');
  if (tenant !== null) query = query.where('tenant', '=', tenant);
  if (key !== null) query = query.where('key', '=', key);
  return (await query.execute()).map(toDayUsage);
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

function toDay({ ref, key, at, model, usage, costUsd }: ModelCall): UsageDayTable {
  return {
    tenant: ref.tenant,
    key,
    day: utcDay(at),
    model,
    calls: 1,
    input_tokens: usage.input_tokens,
    output_tokens: usage.output_tokens,
    cache_read_tokens: usage.cache_read_tokens,
    cache_write_tokens: usage.cache_write_tokens,
    cost_usd: costUsd ?? 0,
    unpriced_calls: costUsd === null ? 1 : 0,
  };
}

function toDayUsage({ tenant, key, day, model, calls, cost_usd, unpriced_calls, ...usage }: Selectable<UsageDayTable>) {
  return { tenant, key, day, model, calls, usage, costUsd: cost_usd, unpricedCalls: unpriced_calls };
}
