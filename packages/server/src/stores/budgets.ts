import type { Kysely, Transaction } from 'kysely';
import type { Account, BudgetStore, Limit, Reserver, Standing, TurnName } from '../engine/ports.ts';
import type { Database } from './database.ts';
import type { Schema } from './schema.ts';
import { budgetOf, utcDay } from './usage.ts';

/** What turns reserve of budgets, in SQL. Metered calls lessen it in the transaction that keeps them. */
export function createBudgetStore(database: Database): BudgetStore {
  return {
    reserve: (reserver, wantUsd, limits) =>
      database.write(async (sql) => {
        await database.alone(sql, budgetOf(reserver.turn.tenant));
        return reserve(sql, reserver, wantUsd, limits);
      }),
    async reserved({ tenant, conversation, turn }) {
      const row = await database.read
        .selectFrom('reservations')
        .select('usd')
        .where('tenant', '=', tenant)
        .where('turn', '=', turn)
        .where('conversation', '=', conversation)
        .executeTakeFirst();
      return row?.usd ?? null;
    },
    release: (turn) => database.writeSoon((sql) => release(sql, turn)),
    standing: (account, except) => standing(database.read, account, except),
    releaseEnded: () => releaseEnded(database),
  };
}

async function reserve(
  sql: Transaction<Schema>,
  { turn: name, key, node }: Reserver,
  wantUsd: number,
  limits: readonly Limit[],
): Promise<number | null> {
  const { tenant, turn, conversation } = name;
  let usd = Math.max(0, wantUsd);
  for (const { account, usd: limit } of limits) {
    const { spentUsd, reservedUsd } = await standing(sql, account, name);
    const left = limit - spentUsd - reservedUsd;
    // Not as `left <= 0`, which would let through what is no number.
    if (!(left > 0)) {
      await release(sql, name);
      return null;
    }
    usd = Math.min(usd, left);
  }
  await sql
    .insertInto('reservations')
    .values({ tenant, turn, conversation, key, usd, node })
    .onConflict((conflict) => conflict.columns(['tenant', 'turn']).doUpdateSet({ conversation, key, usd, node }))
    .execute();
  return usd;
}

async function release(sql: Transaction<Schema>, { tenant, conversation, turn }: TurnName): Promise<void> {
  await sql
    .deleteFrom('reservations')
    .where('tenant', '=', tenant)
    .where('turn', '=', turn)
    .where('conversation', '=', conversation)
    .execute();
}

/** Both sums in one statement: between two, a call could turn what is reserved into what is spent. */
async function standing(sql: Kysely<Schema>, account: Account, except: TurnName | null): Promise<Standing> {
  const { spent, reserved } = await sql
    .selectNoFrom([spentOf(sql, account).as('spent'), reservedOf(sql, account, except).as('reserved')])
    .executeTakeFirstOrThrow();
  return { spentUsd: spent ?? 0, reservedUsd: reserved ?? 0 };
}

/** Days are enough for all conversations together; of a single one only its calls are kept. */
function spentOf(sql: Kysely<Schema>, { tenant, key, conversation, since }: Account) {
  if (conversation === null) {
    const days = sql
      .selectFrom('usage_days')
      .select(({ fn }) => fn.sum<number | null>('cost_usd').as('usd'))
      .where('tenant', '=', tenant)
      .where('day', '>=', utcDay(since));
    return key === null ? days : days.where('key', '=', key);
  }
  const calls = sql
    .selectFrom('usage')
    .select(({ fn }) => fn.sum<number | null>('cost_usd').as('usd'))
    .where('tenant', '=', tenant)
    .where('conversation', '=', conversation)
    .where('at', '>=', since);
  return key === null ? calls : calls.where('key', '=', key);
}

function reservedOf(sql: Kysely<Schema>, { tenant, key, conversation }: Account, except: TurnName | null) {
  let reservations = sql
    .selectFrom('reservations')
    .select(({ fn }) => fn.sum<number | null>('usd').as('usd'))
    .where('tenant', '=', tenant);
  if (key !== null) reservations = reservations.where('key', '=', key);
  if (conversation !== null) reservations = reservations.where('conversation', '=', conversation);
  if (except?.tenant === tenant) reservations = reservations.where('turn', '!=', except.turn);
  return reservations;
}

async function releaseEnded(database: Database): Promise<void> {
  await database.write(async (sql) => {
    await sql
      .deleteFrom('reservations')
      .where((where) =>
        where.not(
          where.exists(
            where
              .selectFrom('turns')
              .select('turns.id')
              .whereRef('turns.tenant', '=', 'reservations.tenant')
              .whereRef('turns.id', '=', 'reservations.turn')
              .where('turns.ended_at', 'is', null),
          ),
        ),
      )
      .where((where) =>
        where.not(
          where.exists(where.selectFrom('nodes').select('nodes.id').whereRef('nodes.id', '=', 'reservations.node')),
        ),
      )
      .execute();
  });
}
