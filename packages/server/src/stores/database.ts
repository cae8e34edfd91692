import type { Kysely, Transaction } from 'kysely';
import { migrate } from './migrate.ts';
import type { Schema } from './schema.ts';

/** The database behind the stores. */
export interface Database {
  /** For single reads. */
  readonly read: Kysely<Schema>;
  /**
   * Runs the work in one transaction and resolves when it is on disk; rejects, with nothing changed, when the work throws.
   * Writes happen one after the other, in the order of the calls. The work must await nothing but its own SQL.
   */
  write<T>(work: (transaction: Transaction<Schema>) => Promise<T>): Promise<T>;
  /** Waits for the writes that were begun. */
  close(): Promise<void>;
}

/** Brings the schema up to date and gives the database. Closes the connection when that fails. */
export async function createDatabase(connection: Kysely<Schema>): Promise<Database> {
  try {
    await migrate(connection);
  } catch (error) {
    await connection.destroy();
    throw error;
  }
  let last: Promise<unknown> = Promise.resolve();
  return {
    read: connection,
    write(work) {
      // Kysely's own lock does not keep the order of those who wait for it.
      const done = last.then(() => connection.transaction().execute(work));
      last = done.catch(() => undefined);
      return done;
    },
    async close() {
      await last;
      await connection.destroy();
    },
  };
}

/** JSON text of a value. Characters that are no valid Unicode are escaped, so that any database keeps them. */
export function toJson(value: unknown): string {
  return JSON.stringify(value) ?? 'null';
}
