import type { Transaction } from 'kysely';
import { StaleEpochError, type FileImage, type ImageStore, type TurnEnd, type TurnRef } from '../engine/ports.ts';
import { laneOf, toJson, type Database } from './database.ts';
import type { Schema } from './schema.ts';

/** What conversations change, in SQL. The images of a conversation are settled by the end of its turns. */
export function createImageStore(database: Database): ImageStore {
  return {
    before: (ref, path, content) => before(database, ref, path, content),
    async ofConversation(tenant, conversation) {
      const rows = await selectOf(database, tenant, conversation).select(['before', 'after']).execute();
      return rows.map((row): FileImage => ({
        path: row.path,
        before: JSON.parse(row.before) as string | null,
        after: JSON.parse(row.after) as string | null,
        settled: row.settled === 1,
      }));
    },
    async pathsOf(tenant, conversation) {
      const rows = await selectOf(database, tenant, conversation).execute();
      return rows.map(({ path, settled }) => ({ path, settled: settled === 1 }));
    },
  };
}

const selectOf = (database: Database, tenant: string, conversation: string) =>
  database.read
    .selectFrom('images')
    .select(['path', 'settled'])
    .where('tenant', '=', tenant)
    .where('conversation', '=', conversation)
    .orderBy('path');

/** Throws `StaleEpochError`: another writer may have changed the file since. */
async function before(database: Database, ref: TurnRef, path: string, content: string | null): Promise<void> {
  const json = toJson(content);
  const write = async (sql: Transaction<Schema>) => {
    const written = await sql
      .insertInto('images')
      .columns(['tenant', 'conversation', 'path', 'before', 'after', 'settled'])
      .expression((from) =>
        from
          .selectFrom('turns')
          .select((column) => [
            'tenant',
            'conversation',
            column.val(path).as('path'),
            column.val(json).as('before'),
            column.val(toJson(null)).as('after'),
            column.lit(0).as('settled'),
          ])
          .where('tenant', '=', ref.tenant)
          .where('id', '=', ref.turn)
          .where('conversation', '=', ref.conversation)
          .where('epoch', '=', ref.epoch)
          .where('ended_at', 'is', null),
      )
      .onConflict((conflict) => conflict.columns(['tenant', 'conversation', 'path']).doUpdateSet({ settled: 0 }))
      .executeTakeFirst();
    if (written.numInsertedOrUpdatedRows !== 1n) throw new StaleEpochError(ref);
  };
  await database.write(write, laneOf(ref.tenant, ref.conversation));
}

/** Files with the JSON of their text. */
export type PreparedFiles = readonly { readonly path: string; readonly after: string }[];

export const prepareFiles = (files: TurnEnd['files']): PreparedFiles =>
  files.map(({ path, content }) => ({ path, after: toJson(content) }));

/** Keeps files as a turn left them. Those that the conversation has no image of are left out. */
export async function settleImages(sql: Transaction<Schema>, ref: TurnRef, files: PreparedFiles): Promise<void> {
  for (const { path, after } of files) {
    await sql
      .updateTable('images')
      .set({ after, settled: 1 })
      .where('tenant', '=', ref.tenant)
      .where('conversation', '=', ref.conversation)
      .where('path', '=', path)
      .execute();
  }
}
