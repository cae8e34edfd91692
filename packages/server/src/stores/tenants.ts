import type { Selectable } from 'kysely';
import type { TenantRecord, TenantStore } from '../engine/ports.ts';
import { toJson, type Database } from './database.ts';
import type { TenantTable } from './schema.ts';

/** Tenants in SQL. */
export function createTenantStore(database: Database): TenantStore {
  return {
    async create({ id, createdAt, disabledAt, budgets }) {
      const row = { id, created_at: createdAt, disabled_at: disabledAt, budgets: budgets && toJson(budgets) };
      const inserted = await database.write((sql) =>
        sql
          .insertInto('tenants')
          .values(row)
          .onConflict((conflict) => conflict.column('id').doNothing())
          .executeTakeFirst(),
      );
      return inserted.numInsertedOrUpdatedRows === 1n;
    },
    async get(id) {
      const row = await database.read.selectFrom('tenants').selectAll().where('id', '=', id).executeTakeFirst();
      return row === undefined ? null : toTenant(row);
    },
    async list() {
      return (await database.read.selectFrom('tenants').selectAll().orderBy('id').execute()).map(toTenant);
    },
    async update(id, { disabledAt, budgets }) {
      const changed = {
        id, // With it, a change of nothing is a statement too.
        ...(disabledAt === undefined ? {} : { disabled_at: disabledAt }),
        ...(budgets === undefined ? {} : { budgets: budgets && toJson(budgets) }),
      };
      const updated = await database.write((sql) =>
        sql.updateTable('tenants').set(changed).where('id', '=', id).executeTakeFirst(),
      );
      return updated.numUpdatedRows === 1n;
    },
  };
}

function toTenant(row: Selectable<TenantTable>): TenantRecord {
  return {
    id: row.id,
    createdAt: row.created_at,
    disabledAt: row.disabled_at,
    budgets: row.budgets === null ? null : (JSON.parse(row.budgets) as TenantRecord['budgets']),
  };
}
