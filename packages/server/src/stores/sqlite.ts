import { chmodSync, closeSync, openSync } from 'node:fs';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import {
  CompiledQuery,
  Kysely,
  SqliteAdapter,
  SqliteDriver,
  SqliteIntrospector,
  SqliteQueryCompiler,
  type DatabaseConnection,
  type Dialect,
  type SqliteDatabase,
  type SqliteStatement,
} from 'kysely';
import type { Schema } from './schema.ts';

/** How long a statement waits for another process that holds the file, a backup for one. It blocks the event loop. */
const busyTimeoutMs = 5000;

/**
 * Opens a SQLite file (made with mode 0600 when missing) as a Kysely database: one connection, WAL, every commit synced
 * to disk. Throws in one line when the file cannot be opened or is no database.
 */
export function openSqlite(file: string): Kysely<Schema> {
  try {
    createPrivate(file);
    const native = new DatabaseSync(file, { timeout: busyTimeoutMs, enableForeignKeyConstraints: true });
    configure(native);
    return new Kysely<Schema>({ dialect: dialect(native) });
  } catch (error) {
    throw new Error(`cannot open the database ${file}: ${reason(error)}`, { cause: error });
  }
}

/** An exclusive lock on a file, held until it is released or the process ends, however it ends. */
export interface FileLock {
  release(): void;
}

/** Takes the lock of a file that serves nothing else; null when another holder has it. Never waits. */
export function lockFile(file: string): FileLock | null {
  createPrivate(file);
  const native = new DatabaseSync(file, { timeout: 0 });
  try {
    native.exec('begin exclusive');
  } catch (error) {
    native.close();
    if (errcode(error) === 5) return null; // SQLITE_BUSY
    throw error;
  }
  return { release: () => native.close() };
}

/** An existing file is never opened here: closing it would drop the locks this process holds on it. */
function createPrivate(file: string): void {
  try {
    closeSync(openSync(file, 'wx', 0o600));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    chmodSync(file, 0o600);
  }
}

function configure(native: DatabaseSync): void {
  try {
    const mode = native.prepare('pragma journal_mode = wal').get()?.['journal_mode'];
    if (mode !== 'wal') throw new Error('this file system cannot hold a write-ahead log; use a local disk');
    native.exec('pragma synchronous = full');
    native.exec('pragma trusted_schema = off');
  } catch (error) {
    native.close();
    throw error;
  }
}

function dialect(native: DatabaseSync): Dialect {
  return {
    createDriver: () => new NodeSqliteDriver(native),
    createAdapter: () => new TransactionalSqliteAdapter(),
    createQueryCompiler: () => new SqliteQueryCompiler(),
    createIntrospector: (db) => new SqliteIntrospector(db),
  };
}

/** SQLite can run DDL in a transaction; Kysely leaves it out, so that an interrupted migration would stay half done. */
class TransactionalSqliteAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true;
  }
}

class NodeSqliteDriver extends SqliteDriver {
  readonly #native: DatabaseSync;

  constructor(native: DatabaseSync) {
    super({ database: adapted(native) });
    this.#native = native;
  }

  /** Takes the write lock at once: a transaction that reads first could not wait for it later. */
  override async beginTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('begin immediate'));
  }

  /** A full disk rolls back by itself; rolling back again would fail and hide why. */
  override async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    if (this.#native.isTransaction) await super.rollbackTransaction(connection);
  }
}

function adapted(native: DatabaseSync): SqliteDatabase {
  const prepared = new Map<string, SqliteStatement>();
  return {
    close: () => native.close(),
    prepare(sql) {
      const known = prepared.get(sql);
      if (known) return known;
      const statement = adaptedStatement(attempt(() => native.prepare(sql)));
      // The statements of the stores are few; those of many rows vary, and would keep the values last bound to them.
      if (sql.length <= 1000 && prepared.size < 200) prepared.set(sql, statement);
      return statement;
    },
  };
}

function adaptedStatement(statement: StatementSync): SqliteStatement {
  const values = (parameters: readonly unknown[]) => parameters as SQLInputValue[];
  return {
    reader: statement.columns().length > 0,
    // Rows come without a prototype; copies are ordinary objects.
    all: (parameters) => attempt(() => statement.all(...values(parameters)).map((row) => ({ ...row }))),
    run: (parameters) => attempt(() => statement.run(...values(parameters))),
    iterate: (parameters) => statement.iterate(...values(parameters)) as IterableIterator<unknown>,
  };
}

/** SQLite reports a full disk as an I/O error where it is its shared-memory file that cannot grow. */
function attempt<T>(run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (errcode(error) !== 4874) throw error; // SQLITE_IOERR_SHMSIZE
    throw Object.assign(new Error('database or disk is full', { cause: error }), { code: 'ENOSPC' });
  }
}

const errcode = (error: unknown): unknown => (error as { errcode?: unknown }).errcode;

const reason = (error: unknown): string => (error instanceof Error ? error.message : String(error));
