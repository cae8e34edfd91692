import type { Selectable, Transaction } from 'kysely';
import type {
  DeliveryFilter,
  DeliveryStore,
  DueDelivery,
  NewDelivery,
  StoredDelivery,
  WebhookSecrets,
  WebhookSecretStore,
} from '../engine/ports.ts';
import { appendAudit } from './audit.ts';
import { laneOf, type Database } from './database.ts';
import { isBefore } from './rows.ts';
import type { Schema } from './schema.ts';
import type { DeliveryTable, WebhookSecretTable } from './schema-webhooks.ts';

/** Keeps a message, in the transaction of what it tells of. One whose id the tenant has is there already. */
export async function insertDelivery(sql: Transaction<Schema>, delivery: NewDelivery): Promise<void> {
  const { createdAt, ...columns } = delivery;
  await sql
    .insertInto('deliveries')
    .values({
      ...columns,
      host: new URL(delivery.url).host,
      state: 'pending',
      tries: 0,
      due_at: createdAt,
      status: null,
      problem: null,
      created_at: createdAt,
      ended_at: null,
    })
    .onConflict((conflict) => conflict.columns(['tenant', 'id']).doNothing())
    .execute();
}

/** Messages to receivers in SQL. */
export function createDeliveryStore(database: Database): DeliveryStore {
  return {
    add: ({ tenant, id, ...rest }) =>
      database.write((sql) => insertDelivery(sql, { tenant, id, ...rest }), laneOf(tenant, id)),
    take: (due) => take(database, due),
    async delivered({ tenant, id }, status, at) {
      const ended = { state: 'delivered', due_at: null, status, problem: null, ended_at: at } as const;
      await database.write((sql) => pending(sql, tenant, id).set(ended).execute(), laneOf(tenant, id));
    },
    async failed({ tenant, id, tries }, { problem, status }, at, dueAt) {
      const end = dueAt === null ? ({ state: 'dead', ended_at: at } as const) : {};
      const write = (sql: Transaction<Schema>) =>
        pending(sql, tenant, id)
          .set({ problem, status, due_at: dueAt, ...end })
          .where('tries', '=', tries)
          .execute();
      await database.write(write, laneOf(tenant, id));
    },
    list: (filter) => list(database, filter),
    redeliver(tenant, id, now, audit) {
      const write = async (sql: Transaction<Schema>) => {
        const row = await sql
          .updateTable('deliveries')
          .set({ state: 'pending', tries: 0, due_at: now, ended_at: null })
          .where('tenant', '=', tenant)
          .where('id', '=', id)
          .returningAll()
          .executeTakeFirst();
        if (row === undefined) return null;
        await appendAudit(sql, [audit]);
        return toDelivery(row);
      };
      return database.write(write, laneOf(tenant, id));
    },
    sweep: (before, limit) => sweep(database, before, limit),
  };
}

const pending = (sql: Transaction<Schema>, tenant: string, id: string) =>
  sql.updateTable('deliveries').where('tenant', '=', tenant).where('id', '=', id).where('state', '=', 'pending');

/** Of those that take the same at once, one changes `due_at` first, and the others look for another one. */
async function take(database: Database, due: DueDelivery): Promise<StoredDelivery | null> {
  for (;;) {
    const found = await longestDue(database, due);
    if (found === undefined) return null;
    const { tenant, id } = found;
    const write = (sql: Transaction<Schema>) =>
      pending(sql, tenant, id)
        .set((column) => ({ due_at: due.until, tries: column('tries', '+', 1) }))
        .where('due_at', '<=', due.now)
        .returningAll()
        .executeTakeFirst();
    const taken = await database.writeSoon(write, laneOf(tenant, id));
    if (taken !== undefined) return toDelivery(taken);
  }
}

async function longestDue(
  database: Database,
  { now, exceptHosts, exceptTenants }: DueDelivery,
): Promise<{ tenant: string; id: string } | undefined> {
  let query = database.read
    .selectFrom('deliveries')
    .select(['tenant', 'id'])
    .where('due_at', '<=', now)
    .orderBy('due_at')
    .limit(1);
  if (exceptHosts.length > 0) query = query.where('host', 'not in', exceptHosts);
  if (exceptTenants.length > 0) query = query.where('tenant', 'not in', exceptTenants);
  return query.executeTakeFirst();
}

async function list(database: Database, filter: DeliveryFilter): Promise<StoredDelivery[]> {
  const { tenant, state, before, limit } = filter;
  let query = database.read
    .selectFrom('deliveries')
    .selectAll()
    .where('tenant', '=', tenant)
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(limit);
  if (state !== null) query = query.where('state', '=', state);
  if (before !== null) query = query.where(isBefore(before));
  return (await query.execute()).map(toDelivery);
}

async function sweep(database: Database, before: number, limit: number): Promise<number> {
  const deleted = await database.write((sql) =>
    sql
      .deleteFrom('deliveries')
      .where((where) =>
        where(
          where.refTuple('tenant', 'id'),
          'in',
          where
            .selectFrom('deliveries as old')
            .select(['old.tenant', 'old.id'])
            .where('old.ended_at', '<', before)
            .orderBy('old.ended_at')
            .limit(limit)
            .$asTuple('tenant', 'id'),
        ),
      )
      .where('ended_at', '<', before)
      .executeTakeFirst(),
  );
  return Number(deleted.numDeletedRows);
}

function toDelivery(row: Selectable<DeliveryTable>): StoredDelivery {
  return {
    tenant: row.tenant,
    id: row.id,
    type: row.type,
    job: row.job,
    url: row.url,
    body: row.body,
    createdAt: row.created_at,
    state: row.state,
    tries: row.tries,
    dueAt: row.due_at,
    status: row.status,
    problem: row.problem,
    endedAt: row.ended_at,
  };
}

/** The secrets of webhooks in SQL, sealed. */
export function createWebhookSecretStore(database: Database): WebhookSecretStore {
  return {
    async get(tenant) {
      const row = await database.read
        .selectFrom('webhook_secrets')
        .selectAll()
        .where('tenant', '=', tenant)
        .executeTakeFirst();
      return row === undefined ? null : toSecrets(row);
    },
    rotate(tenant, { sealed, createdAt, createdBy }, previousUntil, audit) {
      const current = { sealed, created_at: createdAt, created_by: createdBy };
      return database.write(async (sql) => {
        const row = await sql
          .insertInto('webhook_secrets')
          .values({ tenant, ...current, previous: null, previous_until: null })
          .onConflict((conflict) =>
            conflict.column('tenant').doUpdateSet((column) => ({
              ...current,
              previous: column.ref('webhook_secrets.sealed'),
              previous_until: previousUntil,
            })),
          )
          .returningAll()
          .executeTakeFirstOrThrow();
        await appendAudit(sql, [audit]);
        return toSecrets(row);
      });
    },
  };
}

function toSecrets({
  sealed,
  created_at,
  created_by,
  previous,
  previous_until,
}: Selectable<WebhookSecretTable>): WebhookSecrets {
  const before = previous === null || previous_until === null ? null : { sealed: previous, until: previous_until };
  return { sealed, createdAt: created_at, createdBy: created_by, previous: before };
}
