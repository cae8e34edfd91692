import type { Settings } from './config/settings.ts';
import { placeOf, postgresVersion } from './stores/postgres.ts';

/** Where everything is kept, without user and password. */
export const databaseOf = ({ databaseUrl, dataDir }: Pick<Settings, 'databaseUrl' | 'dataDir'>): string =>
  databaseUrl === null ? `SQLite in ${dataDir}` : `Postgres at ${placeOf(databaseUrl)}`;

/** The database as a check of the machine: whether it can be reached, and what it is. Changes nothing. */
export async function examineDatabase(settings: Settings): Promise<{ ok: boolean; detail: string }> {
  const place = databaseOf(settings);
  if (settings.databaseUrl === null) return { ok: true, detail: place };
  try {
    return { ok: true, detail: `${place}: ${await postgresVersion(settings.databaseUrl)}` };
  } catch (error) {
    return { ok: false, detail: (error as Error).message };
  }
}
