import { sql, type Kysely } from 'kysely';

/** The nodes that serve, and whose each turn and each reservation is. What was there before is no node's. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable('nodes')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('place', 'text', (column) => column.notNull())
    .addColumn('beat', 'bigint', (column) => column.notNull())
    .execute();
  await db.schema
    .alterTable('turns')
    .addColumn('node', 'text', (column) => column.notNull().defaultTo(''))
    .execute();
  await db.schema
    .alterTable('turns')
    .addColumn('stop_asked', 'integer', (column) => column.notNull().defaultTo(0))
    .execute();
  await db.schema
    .alterTable('reservations')
    .addColumn('node', 'text', (column) => column.notNull().defaultTo(''))
    .execute();
  // Every node looks several times in a second; hardly ever is there one.
  await db.schema
    .createIndex('turns_asked_to_stop')
    .on('turns')
    .columns(['node'])
    .where(sql.ref('stop_asked'), '=', sql.lit(1))
    .where(sql.ref('ended_at'), 'is', null)
    .execute();
}
