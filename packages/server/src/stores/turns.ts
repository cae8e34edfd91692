import type { LogEvent, LogEventBody } from '@sallyport/protocol';
import type { Transaction } from 'kysely';
import type { Clock } from '../engine/clock.ts';
import {
  ConversationExistsError,
  StaleEpochError,
  type AcceptNextTurn,
  type AcceptTurn,
  type ConversationRecord,
  type Profile,
  type TurnEnd,
  type TurnRef,
  type TurnStore,
  type UnfinishedTurn,
} from '../engine/ports.ts';
import { toJson, type Database } from './database.ts';
import type { Schema } from './schema.ts';

/** Conversations, turns and events in SQL. */
export function createTurnStore(database: Database, clock: Clock): TurnStore {
  return {
    accept: (turn) => accept(database, turn),
    acceptNext: (turn) => acceptNext(database, turn),
    begin: (ref, at) => begin(database, ref, at),
    append: (ref, at, events) => append(database, ref, at, events),
    finish: (ref, end) => finish(database, ref, end),
    read: (tenant, conversation, after, limit) => read(database, tenant, conversation, after, limit),
    takeUnfinished: () => takeUnfinished(database),
    check: () => check(database, clock),
  };
}

/** A body with its JSON, made before the transaction so that nothing but SQL happens in it. */
interface Prepared {
  readonly body: LogEventBody;
  readonly payload: string;
}

const prepare = (body: LogEventBody): Prepared => ({ body, payload: toJson(body) });

async function accept(database: Database, accepted: AcceptTurn): ReturnType<TurnStore['accept']> {
  const { conversation, turn, at } = accepted;
  const request = toJson(accepted.request);
  const row = conversationRow(conversation);
  const prepared = accepted.events.map(prepare);
  const ref: TurnRef = { tenant: conversation.tenant, conversation: conversation.id, turn, epoch: 1 };
  return database.write(async (sql) => {
    const inserted = await sql
      .insertInto('conversations')
      .values({ ...row, status: 'running', epoch: ref.epoch, last_seq: prepared.length, last_active_at: at })
      .onConflict((conflict) => conflict.columns(['tenant', 'id']).doNothing())
      .executeTakeFirst();
    if (inserted.numInsertedOrUpdatedRows !== 1n) throw new ConversationExistsError(conversation.id);
    await insertTurn(sql, ref, request, at);
    return { ref, events: await insertEvents(sql, ref, at, prepared, 0) };
  });
}

async function acceptNext(database: Database, next: AcceptNextTurn): ReturnType<TurnStore['acceptNext']> {
  const { tenant, conversation, turn, at } = next;
  const request = toJson(next.request);
  const prepared = next.events.map(prepare);
  return database.write(async (sql) => {
    const row = await sql
      .updateTable('conversations')
      .set((column) => ({
        status: 'running',
        epoch: column('epoch', '+', 1),
        last_seq: column('last_seq', '+', prepared.length),
        last_active_at: at,
      }))
      .where('tenant', '=', tenant)
      .where('id', '=', conversation)
      .where('status', '=', 'idle')
      .returning(['epoch', 'last_seq'])
      .executeTakeFirst();
    if (row === undefined) return null;
    const ref: TurnRef = { tenant, conversation, turn, epoch: row.epoch };
    await insertTurn(sql, ref, request, at);
    return { ref, events: await insertEvents(sql, ref, at, prepared, row.last_seq - prepared.length) };
  });
}

async function insertTurn(sql: Transaction<Schema>, ref: TurnRef, request: string, at: number): Promise<void> {
  const { tenant, conversation, turn: id, epoch } = ref;
  await sql
    .insertInto('turns')
    .values({ tenant, id, conversation, epoch, state: 'accepted', request, accepted_at: at })
    .execute();
}

function conversationRow(conversation: ConversationRecord) {
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

async function begin(database: Database, ref: TurnRef, at: number): Promise<void> {
  await database.write(async (sql) => {
    const updated = await liveTurn(sql, ref)
      .set((column) => ({ state: 'running', started_at: column.fn.coalesce('started_at', column.val(at)) }))
      .executeTakeFirst();
    if (updated.numUpdatedRows !== 1n) throw new StaleEpochError(ref);
  });
}

async function append(database: Database, ref: TurnRef, at: number, bodies: readonly LogEventBody[]) {
  const prepared = bodies.map(prepare);
  return database.write(async (sql) => {
    const before = await claimSeqs(sql, ref, at, prepared.length, 'running');
    return insertEvents(sql, ref, at, prepared, before);
  });
}

async function finish(database: Database, ref: TurnRef, end: TurnEnd): Promise<LogEvent> {
  const { state, at, code } = end;
  const prepared = prepare({ type: 'result', result: end.result, code });
  const result = toJson(end.result);
  return database.write(async (sql) => {
    const before = await claimSeqs(sql, ref, at, 1, 'idle');
    const ended = await liveTurn(sql, ref).set({ state, result, code, ended_at: at }).executeTakeFirst();
    if (ended.numUpdatedRows !== 1n) throw new StaleEpochError(ref);
    const [event] = await insertEvents(sql, ref, at, [prepared], before);
    return event as LogEvent;
  });
}

const liveTurn = (sql: Transaction<Schema>, ref: TurnRef) =>
  sql
    .updateTable('turns')
    .where('tenant', '=', ref.tenant)
    .where('id', '=', ref.turn)
    .where('conversation', '=', ref.conversation)
    .where('epoch', '=', ref.epoch)
    .where('ended_at', 'is', null);

/**
 * Reserves the next `count` places of the log for the turn and gives the last one before them. The epoch belongs to one
 * turn, and `running` says that it has no end yet, so the one statement that reserves also refuses every stale writer.
 */
async function claimSeqs(
  sql: Transaction<Schema>,
  ref: TurnRef,
  at: number,
  count: number,
  status: 'running' | 'idle',
): Promise<number> {
  const row = await sql
    .updateTable('conversations')
    .set((column) => ({ last_seq: column('last_seq', '+', count), last_active_at: at, status }))
    .where('tenant', '=', ref.tenant)
    .where('id', '=', ref.conversation)
    .where('epoch', '=', ref.epoch)
    .where('status', '=', 'running')
    .where((where) =>
      where.exists(
        where
          .selectFrom('turns')
          .select('turns.id')
          .where('turns.tenant', '=', ref.tenant)
          .where('turns.id', '=', ref.turn)
          .where('turns.conversation', '=', ref.conversation),
      ),
    )
    .returning('last_seq')
    .executeTakeFirst();
  if (row === undefined) throw new StaleEpochError(ref);
  return row.last_seq - count;
}

/** Most rows of one statement, as databases bound the values of one. */
const rowsPerInsert = 1000;

async function insertEvents(
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

async function read(database: Database, tenant: string, conversation: string, after: number, limit: number) {
  const rows = await database.read
    .selectFrom('events')
    .select(['seq', 'turn', 'at', 'payload'])
    .where('tenant', '=', tenant)
    .where('conversation', '=', conversation)
    .where('seq', '>', after)
    .orderBy('seq')
    .limit(limit)
    .execute();
  return rows.map(({ seq, turn, at, payload }): LogEvent => ({ seq, turn, at, body: JSON.parse(payload) }));
}

async function takeUnfinished(database: Database): Promise<UnfinishedTurn[]> {
  const rows = await database.write(async (sql) => {
    await sql
      .updateTable('conversations')
      .set((column) => ({ epoch: column('epoch', '+', 1) }))
      .where((where) =>
        where.exists(
          where
            .selectFrom('turns')
            .select('turns.id')
            .whereRef('turns.tenant', '=', 'conversations.tenant')
            .whereRef('turns.conversation', '=', 'conversations.id')
            .where('turns.ended_at', 'is', null),
        ),
      )
      .execute();
    await sql
      .updateTable('turns')
      .set((column) => ({ epoch: column('epoch', '+', 1) }))
      .where('ended_at', 'is', null)
      .execute();
    return sql
      .selectFrom('turns')
      .innerJoin('conversations', (join) =>
        join.onRef('conversations.tenant', '=', 'turns.tenant').onRef('conversations.id', '=', 'turns.conversation'),
      )
      .select(['turns.tenant', 'turns.conversation', 'turns.id', 'turns.epoch', 'turns.accepted_at'])
      .select('conversations.profile')
      .where('turns.ended_at', 'is', null)
      .orderBy('turns.accepted_at')
      .execute();
  });
  return rows.map(({ tenant, conversation, id, epoch, accepted_at, profile }) => ({
    ref: { tenant, conversation, turn: id, epoch },
    acceptedAt: accepted_at,
    model: (JSON.parse(profile) as Profile).model,
  }));
}

/** Commits a row: what is rolled back never reaches the disk and would not find it full. */
async function check(database: Database, clock: Clock): Promise<void> {
  const at = clock.now();
  await database.write(async (sql) => {
    await sql
      .insertInto('write_checks')
      .values({ id: 'check', at })
      .onConflict((conflict) => conflict.column('id').doUpdateSet({ at }))
      .execute();
  });
}
