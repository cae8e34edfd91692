import type { ExpressionBuilder, Transaction } from 'kysely';
import type { TurnStore } from '../engine/ports.ts';
import { laneOf, type Database } from './database.ts';
import { toConversation, toTurn } from './rows.ts';
import type { Schema } from './schema.ts';

type OfTurns = Pick<TurnStore, 'takeUnfinished' | 'ofNode' | 'giveUp' | 'askStop' | 'askedToStop'>;

/** Whose the turns without an end are, in SQL. */
export function unfinishedTurns(database: Database): OfTurns {
  return {
    takeUnfinished: (by) => takeUnfinished(database, by),
    async ofNode(node) {
      const rows = await database.read
        .selectFrom('turns')
        .select(['tenant', 'conversation', 'id as turn', 'epoch'])
        .where('ended_at', 'is', null)
        .where('node', '=', node)
        .execute();
      return rows;
    },
    async giveUp({ tenant, conversation, turn, epoch }) {
      const write = (sql: Transaction<Schema>) =>
        sql
          .updateTable('turns')
          .set({ node: nobody })
          .where('tenant', '=', tenant)
          .where('id', '=', turn)
          .where('epoch', '=', epoch)
          .where('ended_at', 'is', null)
          .execute();
      await database.write(write, laneOf(tenant, conversation));
    },
    async askStop(tenant, conversation) {
      const row = await database.write((sql) =>
        sql
          .updateTable('turns')
          .set({ stop_asked: 1 })
          .where('tenant', '=', tenant)
          .where('conversation', '=', conversation)
          .where('ended_at', 'is', null)
          .returning(['id', 'node'])
          .executeTakeFirst(),
      );
      return row === undefined ? null : { turn: row.id, node: row.node };
    },
    askedToStop: (node) =>
      database.read
        .selectFrom('turns')
        .select(['tenant', 'conversation'])
        .where('stop_asked', '=', 1)
        .where('ended_at', 'is', null)
        .where('node', '=', node)
        .execute(),
  };
}

/** A node that is never in the list. */
const nobody = '';

/** True of a turn without an end whose node is not in the list. */
const isNobodys = (where: ExpressionBuilder<Schema, 'turns'>) =>
  where.and([
    where('turns.ended_at', 'is', null),
    where.not(where.exists(where.selectFrom('nodes').select('nodes.id').whereRef('nodes.id', '=', 'turns.node'))),
  ]);

async function takeUnfinished(database: Database, by: string): ReturnType<TurnStore['takeUnfinished']> {
  const found = await database.read.selectFrom('turns').select('id').where(isNobodys).limit(1).executeTakeFirst();
  if (found === undefined) return [];
  const { conversations, turns } = await database.write((sql) => take(sql, by));
  const name = (tenant: string, conversation: string) => JSON.stringify([tenant, conversation]);
  const named = new Map(conversations.map((row) => [name(row.tenant, row.id), toConversation(row)]));
  return turns.flatMap((row) => {
    const conversation = named.get(name(row.tenant, row.conversation));
    return conversation ? [{ turn: toTurn(row), conversation, claimed: row.hash !== null }] : [];
  });
}

/**
 * Conversations before turns, as whoever writes events: else each could wait for the other. A conversation that had the
 * next turn meanwhile has another epoch than the turn that was seen.
 */
async function take(sql: Transaction<Schema>, by: string) {
  const conversations = await sql
    .updateTable('conversations')
    .set((column) => ({ epoch: column('epoch', '+', 1) }))
    .where('status', 'in', ['running', 'waiting'])
    .where((where) =>
      where.exists(
        where
          .selectFrom('turns')
          .select('turns.id')
          .whereRef('turns.tenant', '=', 'conversations.tenant')
          .whereRef('turns.conversation', '=', 'conversations.id')
          .whereRef('turns.epoch', '=', 'conversations.epoch')
          .where(isNobodys),
      ),
    )
    .returningAll()
    .execute();
  await sql
    .updateTable('turns')
    .set((column) => ({ epoch: column('epoch', '+', 1), node: by }))
    .where(isNobodys)
    .where((where) =>
      where.exists(
        where
          .selectFrom('conversations')
          .select('conversations.id')
          .whereRef('conversations.tenant', '=', 'turns.tenant')
          .whereRef('conversations.id', '=', 'turns.conversation')
          .where('conversations.epoch', '=', where('turns.epoch', '+', 1)),
      ),
    )
    .execute();
  const turns = await sql
    .selectFrom('turns')
    .leftJoin('claims', (join) =>
      join.onRef('claims.tenant', '=', 'turns.tenant').onRef('claims.turn', '=', 'turns.id'),
    )
    .selectAll('turns')
    .select('claims.hash')
    .where('turns.ended_at', 'is', null)
    .where('turns.node', '=', by)
    .orderBy('turns.accepted_at')
    .execute();
  return { conversations, turns };
}
