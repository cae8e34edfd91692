import { sql, type Kysely, type Transaction } from 'kysely';
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
   * The same, but resolves when it is committed and on its way to the disk: a crash of the system may lose it, with all
   * that was written after it, a crash of the service never. The next `write` takes it along. For what is of no use
   * without the end of its turn, or is only waited for because the next step needs it read.
   */
  writeSoon<T>(work: Work<T>, lane?: string): Promise<T>;
  /**
   * Lets no other transaction, of whatever process, that names the same thing go on before the end of this one: for what
   * is decided by rows that may not be there yet.
   */
  alone(transaction: Transaction<Schema>, thing: readonly string[]): Promise<void>;
  /** A query that keeps the row of `turns` which it finds as it is until the end of the transaction. */
  holding<Query extends { forNoKeyUpdate(of: 'turns'): Query }>(query: Query): Query;
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
  const inOrder = <T>(write: () => Promise<T>): Promise<T> => {
    // Kysely's own lock does not keep the order of those who wait for it.
    const done = last.then(write);
    last = done.catch(() => undefined);
    return done;
  };
  return {
    read: connection,
    write: (work) => inOrder(() => connection.transaction().execute(work)),
    writeSoon: (work) =>
      inOrder(async () => {
        await sql`pragma synchronous = normal`.execute(connection);
        try {
          return await connection.transaction().execute(work);
        } finally {
          await sql`pragma synchronous = full`.execute(connection);
        }
      }),
    alone: async () => undefined,
    holding: (query) => query,
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
