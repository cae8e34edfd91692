import type { Selectable } from 'kysely';
import type { TenantRecord, TenantStore } from '../engine/ports.ts';
import { appendAudit } from './audit.ts';
import { toJson, type Database } from './database.ts';
import type { TenantTable } from './schema.ts';

/** Tenants in SQL. */
export function createTenantStore(database: Database): TenantStore {
  return {
    async create({ id, createdAt, budgets }, audit) {
      const row = { id, created_at: createdAt, budgets: budgets && toJson(budgets) };
      return database.write(async (sql) => {
        const inserted = await sql
          .insertInto('tenants')
          .values(row)
          .onConflict((conflict) => conflict.column('id').doNothing())
          .executeTakeFirst();
        if (inserted.numInsertedOrUpdatedRows !== 1n) return false;
        await appendAudit(sql, [audit]);
        return true;
      });
    },
    async get(id) {
      const row = await database.read.selectFrom('tenants').selectAll().where('id', '=', id).executeTakeFirst();
      return row === undefined ? null : toTenant(row);
    },
    async list() {
      return (await database.read.selectFrom('tenants').selectAll().orderBy('id').execute()).map(toTenant);
    },
    async setBudgets(id, budgets, audit) {
      const json = budgets && toJson(budgets);
      return database.write(async (sql) => {
        const updated = await sql.updateTable('tenants').set({ budgets: json }).where('id', '=', id).executeTakeFirst();
        if (updated.numUpdatedRows !== 1n) return false;
        await appendAudit(sql, [audit]);
        return true;
      });
    },
  };
}

function toTenant(row: Selectable<TenantTable>): TenantRecord {
  return {
    id: row.id,
    createdAt: row.created_at,
    budgets: row.budgets === null ? null : (JSON.parse(row.budgets) as TenantRecord['budgets']),
  };
}
