import type { LogEvent, LogEventBody } from '@sallyport/protocol';
import type { Transaction } from 'kysely';
import { StaleEpochError, type TurnRef } from '../engine/ports.ts';
import { toJson, type Database } from './database.ts';
import type { EventTable, Schema } from './schema.ts';

/** A body with its JSON, made before the transaction so that nothing but SQL happens in it. */
export interface Prepared {
  readonly body: LogEventBody;
  readonly payload: string;
}

export const prepare = (body: LogEventBody): Prepared => ({ body, payload: toJson(body) });

/**
 * Appends events of a turn that has no end yet. Turn and conversation have the given state then; without one theirs
 * stays. Throws `StaleEpochError`.
 */
export async function appendEvents(
  sql: Transaction<Schema>,
  ref: TurnRef,
  at: number,
  prepared: readonly Prepared[],
  state?: 'running' | 'waiting',
): Promise<LogEvent[]> {
  const before = await reserve(sql, ref, at, prepared.length, state);
  if (state !== undefined) await liveTurn(sql, ref).set({ state }).execute();
  return insertEvents(sql, ref, at, prepared, before);
}

/** Writes to the turn while it has no end and the epoch is its own. */
export const liveTurn = (sql: Transaction<Schema>, ref: TurnRef) =>
  sql
    .updateTable('turns')
    .where('tenant', '=', ref.tenant)
    .where('id', '=', ref.turn)
    .where('conversation', '=', ref.conversation)
    .where('epoch', '=', ref.epoch)
    .where('ended_at', 'is', null);

/**
 * Reserves the next `count` places of the log for the turn and gives the last one before them. The one statement that
 * reserves also refuses every stale writer. Throws `StaleEpochError`.
 */
export async function reserve(
  sql: Transaction<Schema>,
  ref: TurnRef,
  at: number,
  count: number,
  status?: 'running' | 'waiting' | 'idle',
): Promise<number> {
  const row = await sql
    .updateTable('conversations')
    .set((column) => ({
      last_seq: column('last_seq', '+', count),
      last_active_at: at,
      ...(status === undefined ? {} : { status }),
    }))
    .where('tenant', '=', ref.tenant)
    .where('id', '=', ref.conversation)
    .where('epoch', '=', ref.epoch)
    .where('status', 'in', ['running', 'waiting'])
    .where((where) =>
      where.exists(
        where
          .selectFrom('turns')
          .select('turns.id')
          .where('turns.tenant', '=', ref.tenant)
          .where('turns.id', '=', ref.turn)
          .where('turns.conversation', '=', ref.conversation)
          .where('turns.ended_at', 'is', null),
      ),
    )
    .returning('last_seq')
    .executeTakeFirst();
  if (row === undefined) throw new StaleEpochError(ref);
  return row.last_seq - count;
}

/** Most rows of one statement, as databases bound the values of one. */
export const rowsPerInsert = 1000;

/** Writes events to the places after `before`, which were reserved. */
export async function insertEvents(
  sql: Transaction<Schema>,
  { tenant, conversation, turn }: TurnRef,
  at: number,
  prepared: readonly Prepared[],
  before: number,
): Promise<LogEvent[]> {
  const rows = prepared.map(({ body, payload }, index) => ({
    tenant,
    conversation,
    seq: before + index + 1,
    turn,
    at,
    type: body.type,
    payload,
  }));
  for (let from = 0; from < rows.length; from += rowsPerInsert) {
    await sql
      .insertInto('events')
      .values(rows.slice(from, from + rowsPerInsert))
      .execute();
  }
  return prepared.map(({ body }, index) => ({ seq: before + index + 1, turn, at, body }));
}

/** Up to `limit` events after a place, in order. */
export async function readEvents(
  database: Database,
  tenant: string,
  conversation: string,
  after: number,
  limit: number,
): Promise<LogEvent[]> {
  const rows = await database.read
    .selectFrom('events')
    .select(['seq', 'turn', 'at', 'payload'])
    .where('tenant', '=', tenant)
    .where('conversation', '=', conversation)
    .where('seq', '>', after)
    .orderBy('seq')
    .limit(limit)
    .execute();
  return rows.map(toEvent);
}

export const toEvent = ({
  seq,
  turn,
  at,
  payload,
}: Omit<EventTable, 'tenant' | 'conversation' | 'type'>): LogEvent => ({
  seq,
  turn,
  at,
  body: JSON.parse(payload),
});
