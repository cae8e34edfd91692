import type { Kysely } from 'kysely';
import { Migrator, type Migration } from 'kysely/migration';
import * as conversations from './migrations/0001_conversations.ts';
import * as jobs from './migrations/0002_jobs.ts';
import * as webhooks from './migrations/0003_webhooks.ts';
import * as nodes from './migrations/0004_nodes.ts';
import * as keptPlace from './migrations/0005_kept_place.ts';
import type { Schema } from './schema.ts';

/** Every migration by name. Names sort in the order they run; one that has been released is never changed. */
const migrations: Readonly<Record<string, Migration>> = {
  '0001_conversations': conversations,
  '0002_jobs': jobs,
  '0003_webhooks': webhooks,
  '0004_nodes': nodes,
  '0005_kept_place': keptPlace,
};

/**
 * Brings the database to this version's schema; each migration is committed whole or not at all. Throws, with nothing
 * changed, when the database was written by a newer version.
 */
export async function migrate(db: Kysely<Schema>, known = migrations): Promise<void> {
  await refuseNewer(db, known);
  const migrator = new Migrator({ db, provider: { getMigrations: async () => ({ ...known }) } });
  const { error } = await migrator.migrateToLatest();
  if (error === undefined) return;
  // A newer version may have come first while this one waited.
  await refuseNewer(db, known);
  throw error;
}

async function refuseNewer(db: Kysely<Schema>, known: Readonly<Record<string, Migration>>): Promise<void> {
  const newer = (await appliedMigrations(db)).find((name) => !Object.hasOwn(known, name));
  if (newer === undefined) return;
  throw new Error(
    `the database was written by a newer version of Sallyport: this version does not know its migration ` +
      `"${newer}"; run the newer version, or restore a backup made before it`,
  );
}

async function appliedMigrations(db: Kysely<Schema>): Promise<string[]> {
  const log = 'kysely_migration';
  const tables = await db.introspection.getTables({ withInternalKyselyTables: true });
  if (!tables.some((table) => table.name === log)) return [];
  const rows = await (db as unknown as Kysely<{ [log]: { name: string } }>).selectFrom(log).select('name').execute();
  return rows.map((row) => row.name);
}
