import type { LogEvent } from '@sallyport/protocol';
import type { Transaction } from 'kysely';
import type { Clock } from '../engine/clock.ts';
import {
  ConversationExistsError,
  StaleEpochError,
  type AcceptNextTurn,
  type AcceptTurn,
  type TurnCounters,
  type TurnEnd,
  type TurnRef,
  type TurnState,
  type TurnStore,
} from '../engine/ports.ts';
import { settlePending } from './approvals.ts';
import { appendAudit } from './audit.ts';
import { claimed, deleteClaim, insertClaim, refuseTaken, sweepClaims } from './claims.ts';
import { laneOf, toJson, type Database, type Work } from './database.ts';
import { prepareFiles, settleImages } from './images.ts';
import { appendEvents, insertEvents, liveTurn, prepare, readEvents, reserve, toEvent } from './log.ts';
import { conversationRow, toTurn } from './rows.ts';
import type { Schema } from './schema.ts';
import { unfinishedTurns } from './unfinished.ts';

/** Conversations, turns and events in SQL. */
export function createTurnStore(database: Database, clock: Clock): TurnStore {
  return {
    accept: (turn) => accept(database, turn),
    acceptNext: (turn) => acceptNext(database, turn),
    begin: (ref, at) => begin(database, ref, at),
    async append(ref, at, events, state, audit = []) {
      const prepared = events.map(prepare);
      const write = async (sql: Transaction<Schema>) => {
        const appended = await appendEvents(sql, ref, at, prepared, state);
        await appendAudit(sql, audit);
        return appended;
      };
      const isSaid = audit.length === 0 && state === undefined && events.every(({ type }) => said.has(type));
      const lane = laneOf(ref.tenant, ref.conversation);
      return await (isSaid ? database.writeSoon(write, lane) : database.write(write, lane));
    },
    count: (ref, counters) => count(database, ref, counters),
    finish: (ref, end) => finish(database, ref, end),
    withdraw: (ref) => withdraw(database, ref),
    async get(tenant, turn) {
      const row = await database.read
        .selectFrom('turns')
        .selectAll()
        .where('tenant', '=', tenant)
        .where('id', '=', turn)
        .executeTakeFirst();
      return row === undefined ? null : toTurn(row);
    },
    claimed: (tenant, key, idempotencyKey, now) => claimed(database, tenant, key, idempotencyKey, now),
    sweepClaims: (now, limit) => sweepClaims(database, now, limit),
    read: (tenant, conversation, after, limit) => readEvents(database, tenant, conversation, after, limit),
    ...unfinishedTurns(database),
    check: () => check(database, clock),
  };
}

/** What is said is worth no waiting for the disk: without the end of its turn it is said again or given up. */
const said: ReadonlySet<string> = new Set(['text', 'thinking']);

const writeTurn = <T>(
  database: Database,
  { tenant, conversation }: Omit<TurnRef, 'epoch'>,
  work: Work<T>,
): Promise<T> => database.write(work, laneOf(tenant, conversation));

async function accept(database: Database, accepted: AcceptTurn): ReturnType<TurnStore['accept']> {
  const { conversation, turn, node, at, claim } = accepted;
  const request = toJson(accepted.request);
  const row = conversationRow(conversation);
  const prepared = accepted.events.map(prepare);
  const ref: TurnRef = { tenant: conversation.tenant, conversation: conversation.id, turn, epoch: 1 };
  return writeTurn(database, ref, async (sql) => {
    const inserted = await sql
      .insertInto('conversations')
      .values({ ...row, status: 'running', epoch: ref.epoch, last_seq: prepared.length, last_active_at: at })
      .onConflict((conflict) => conflict.columns(['tenant', 'id']).doNothing())
      .executeTakeFirst();
    if (inserted.numInsertedOrUpdatedRows !== 1n) {
      await refuseTaken(sql, ref.tenant, claim, at);
      throw new ConversationExistsError(conversation.id);
    }
    await insertTurn(sql, ref, node, request, at);
    await insertClaim(sql, ref, claim, at);
    return { ref, events: await insertEvents(sql, ref, at, prepared, 0) };
  });
}

async function acceptNext(database: Database, next: AcceptNextTurn): ReturnType<TurnStore['acceptNext']> {
  const { tenant, conversation, turn, node, at, claim } = next;
  const request = toJson(next.request);
  const prepared = next.events.map(prepare);
  return writeTurn(database, next, async (sql) => {
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
    if (row === undefined) {
      await refuseTaken(sql, tenant, claim, at);
      return null;
    }
    const ref: TurnRef = { tenant, conversation, turn, epoch: row.epoch };
    await insertTurn(sql, ref, node, request, at);
    await insertClaim(sql, ref, claim, at);
    return { ref, events: await insertEvents(sql, ref, at, prepared, row.last_seq - prepared.length) };
  });
}

async function insertTurn(
  sql: Transaction<Schema>,
  { tenant, conversation, turn: id, epoch }: TurnRef,
  node: string,
  request: string,
  at: number,
): Promise<void> {
  const begun = { node, stop_asked: 0, state: 'accepted', batches: 0, active_ms: 0, accepted_at: at } as const;
  await sql
    .insertInto('turns')
    .values({ tenant, id, conversation, epoch, request, ...begun })
    .execute();
}

/** A turn that was taken over while it waited goes on waiting. */
async function begin(database: Database, ref: TurnRef, at: number): Promise<void> {
  const { tenant, conversation } = ref;
  const write = async (sql: Transaction<Schema>): Promise<void> => {
    const updated = await liveTurn(sql, ref)
      .set((column) => ({
        state: column
          .case()
          .when('state', '=', 'accepted')
          .then(column.val<TurnState>('running'))
          .else(column.ref('state'))
          .end(),
        started_at: column.fn.coalesce('started_at', column.val(at)),
      }))
      .executeTakeFirst();
    if (updated.numUpdatedRows !== 1n) throw new StaleEpochError(ref);
  };
  await database.writeSoon(write, laneOf(tenant, conversation));
}

async function count(database: Database, ref: TurnRef, { batches, activeMs }: TurnCounters): Promise<void> {
  const counters = { batches, active_ms: Math.round(activeMs) };
  await writeTurn(database, ref, async (sql) => {
    const updated = await liveTurn(sql, ref).set(counters).executeTakeFirst();
    if (updated.numUpdatedRows !== 1n) throw new StaleEpochError(ref);
  });
}

async function finish(database: Database, ref: TurnRef, end: TurnEnd): Promise<LogEvent> {
  const { state, at, code } = end;
  const prepared = prepare({ type: 'result', result: end.result, code });
  const result = toJson(end.result);
  const files = prepareFiles(end.files);
  return writeTurn(database, ref, async (sql) => {
    const before = await reserve(sql, ref, at, 1, 'idle').catch(async (error: unknown) => {
      // Whoever ends a turn may have heard nothing of it, and ends it again.
      const stored = await storedEnd(sql, ref, result);
      if (stored === null) throw error;
      return stored;
    });
    if (typeof before === 'object') return before;
    const ended = await liveTurn(sql, ref).set({ state, result, code, ended_at: at }).executeTakeFirst();
    if (ended.numUpdatedRows !== 1n) throw new StaleEpochError(ref);
    // Where waiting counts it was the human who did not answer in time.
    const unanswered = end.result.stop_reason === 'timeout' ? 'expired' : 'cancelled';
    await settlePending(sql, ref.tenant, ref.turn, unanswered, at);
    await settleImages(sql, ref, files);
    if (end.nothingRan) await deleteClaim(sql, ref);
    const [event] = await insertEvents(sql, ref, at, [prepared], before);
    return event as LogEvent;
  });
}

async function withdraw(database: Database, ref: TurnRef): Promise<void> {
  await writeTurn(database, ref, async (sql) => {
    const { numDeletedRows } = await sql
      .deleteFrom('conversations')
      .where('tenant', '=', ref.tenant)
      .where('id', '=', ref.conversation)
      .where('epoch', '=', ref.epoch)
      .executeTakeFirst();
    if (numDeletedRows !== 1n) throw new StaleEpochError(ref);
  });
}

/** The last event of a turn that this writer has ended with this result; null when there is none. */
async function storedEnd(sql: Transaction<Schema>, ref: TurnRef, result: string): Promise<LogEvent | null> {
  const row = await sql
    .selectFrom('turns')
    .innerJoin('events', (join) =>
      join
        .onRef('events.tenant', '=', 'turns.tenant')
        .onRef('events.conversation', '=', 'turns.conversation')
        .onRef('events.turn', '=', 'turns.id'),
    )
    .select(['events.seq', 'events.turn', 'events.at', 'events.payload'])
    .where('turns.tenant', '=', ref.tenant)
    .where('turns.id', '=', ref.turn)
    .where('turns.conversation', '=', ref.conversation)
    .where('turns.epoch', '=', ref.epoch)
    .where('turns.result', '=', result)
    .where('events.type', '=', 'result')
    .executeTakeFirst();
  return row === undefined ? null : toEvent(row);
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
