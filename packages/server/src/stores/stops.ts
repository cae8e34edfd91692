import type { Selectable } from 'kysely';
import type { Stop, StopStore } from '../engine/ports.ts';
import { appendAudit } from './audit.ts';
import type { Database } from './database.ts';
import type { StopTable } from './schema.ts';

/** The stops that hold, of all tenants, in SQL. */
export function createStopStore(database: Database): StopStore {
  return {
    async add({ createdAt, createdBy, ...stop }, audit) {
      await database.write(async (sql) => {
        await sql
          .insertInto('stops')
          .values({ ...stop, created_at: createdAt, created_by: createdBy })
          .execute();
        await appendAudit(sql, [audit]);
      });
    },
    async list() {
      const oldest = database.read.selectFrom('stops').selectAll().orderBy('created_at').orderBy('id');
      return (await oldest.execute()).map(toStop);
    },
    lift: (id, audit) =>
      database.write(async (sql) => {
        const row = await sql.deleteFrom('stops').where('id', '=', id).returningAll().executeTakeFirst();
        if (row === undefined) return null;
        const stop = toStop(row);
        await appendAudit(sql, [audit(stop)]);
        return stop;
      }),
  };
}

const toStop = ({ created_at, created_by, ...stop }: Selectable<StopTable>): Stop => ({
  ...stop,
  createdAt: created_at,
  createdBy: created_by,
});
