import type { Kysely, Transaction } from 'kysely';
import { migrate } from './migrate.ts';
import type { Schema } from './schema.ts';

/** The database behind the stores. */
export interface Database {
  /** For single reads. */
  readonly read: Kysely<Schema>;
  /**
   * Runs the work in one transaction and resolves when it is on disk; rejects, with nothing changed, when the work throws.
   * Writes of one lane happen one after the other, in the order of the calls. The work must await nothing but its own
   * SQL, and is run again where the database asked for that.
   */
  write<T>(work: Work<T>, lane?: string): Promise<T>;
  /**
   * Lets no other transaction, of whatever process, that names the same thing go on before the end of this one: for what
   * is decided by rows that may not be there yet.
   */
  alone(transaction: Transaction<Schema>, thing: readonly string[]): Promise<void>;
  /** Waits for the writes that were begun. */
  close(): Promise<void>;
}

/** What happens in one transaction. */
export type Work<T> = (transaction: Transaction<Schema>) => Promise<T>;

/** The lane of what is written of a conversation, or of a session of Claude Code. */
export const laneOf = (tenant: string, name: string): string => JSON.stringify([tenant, name]);

/**
 * Brings the schema up to date and gives a database of one connection, on which all writes are of one lane. Closes the
 * connection when that fails.
 */
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
    alone: async () => undefined,
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

/** Text as any database gives it back: valid Unicode without NUL. */
export const toText = (text: string): string => text.toWellFormed().replaceAll('\0', '\u{fffd}');
