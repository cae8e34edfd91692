import type { NodeStore } from '../engine/ports.ts';
import type { Database } from './database.ts';

/** The nodes that serve, in SQL. */
export function createNodeStore(database: Database): NodeStore {
  return {
    async join(id, place) {
      await database.write((sql) => sql.insertInto('nodes').values({ id, place, beat: 1 }).execute());
    },
    async beat(id) {
      const { numUpdatedRows } = await database.write((sql) =>
        sql
          .updateTable('nodes')
          .set((column) => ({ beat: column('beat', '+', 1) }))
          .where('id', '=', id)
          .executeTakeFirst(),
      );
      return numUpdatedRows === 1n;
    },
    list: () => database.read.selectFrom('nodes').select(['id', 'beat']).orderBy('id').execute(),
    async evict({ id, beat }) {
      const { numDeletedRows } = await database.write((sql) =>
        sql.deleteFrom('nodes').where('id', '=', id).where('beat', '=', beat).executeTakeFirst(),
      );
      return numDeletedRows === 1n;
    },
    async evictPlace(place) {
      const rows = await database.write((sql) =>
        sql.deleteFrom('nodes').where('place', '=', place).returning('id').execute(),
      );
      return rows.map(({ id }) => id);
    },
    async leave(id) {
      await database.write((sql) => sql.deleteFrom('nodes').where('id', '=', id).execute());
    },
    async keptPlace(told) {
      if (told !== null) {
        const row = { id: 'files', name: told };
        await database.write((sql) =>
          sql
            .insertInto('kept_place')
            .values(row)
            .onConflict((conflict) => conflict.doNothing())
            .execute(),
        );
      }
      return (await database.read.selectFrom('kept_place').select('name').executeTakeFirst())?.name ?? null;
    },
  };
}
