import type { Kysely } from 'kysely';

/** The name of the directory in which the files of conversations are kept. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('kept_place')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('name', 'text', (column) => column.notNull())
    .execute();
}
