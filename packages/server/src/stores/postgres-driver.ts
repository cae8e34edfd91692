import {
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type CompiledQuery,
  type DatabaseConnection,
  type DataTypeNode,
  type Dialect,
  type Driver,
  type QueryResult,
} from 'kysely';
import type { Pool, PoolClient, QueryArrayResult, QueryResult as PgResult } from 'pg';
import { isUnreachable, storeError } from './postgres-errors.ts';

/** Thrown when the connection was lost with the answer to COMMIT: the transaction is committed, or not. */
export class LostCommitError extends Error {
  /** Number of the transaction, as the database names it. */
  readonly transaction: string;

  constructor(transaction: string, cause: unknown) {
    super('the answer to a commit was lost', { cause });
    this.name = 'LostCommitError';
    this.transaction = transaction;
  }
}

/**
 * Postgres for Kysely, over a pool that `end` ends. A connection that was lost or did not answer in time is never used
 * again. Failures of the database, not of a statement, are those of `storeError`.
 */
export function postgresDialect(pool: Pool, end: () => Promise<void>): Dialect {
  return {
    createDriver: () => new PoolDriver(pool, end),
    createAdapter: () => new PostgresAdapter(),
    createQueryCompiler: () => new BinaryTextCompiler(),
    createIntrospector: (db) => new PostgresIntrospector(db),
  };
}

/** Text is compared byte by byte, as in SQLite, whatever the database was made with. */
class BinaryTextCompiler extends PostgresQueryCompiler {
  protected override visitDataType(node: DataTypeNode): void {
    super.visitDataType(node);
    if (node.dataType === 'text') this.append(' collate "C"');
  }
}

/** Postgres keeps no NUL in text. As half a pair of surrogates, which no database keeps, it becomes a replacement character. */
const storable = (parameter: unknown): unknown =>
  typeof parameter === 'string' ? parameter.replaceAll('\0', '\u{fffd}') : parameter;

class PoolConnection implements DatabaseConnection {
  readonly #client: PoolClient;
  /** What broke it. */
  lost: Error | null = null;
  /** Number of the transaction that runs on it. */
  transaction = '';

  constructor(client: PoolClient) {
    this.#client = client;
  }

  async executeQuery<R>({ sql, parameters }: CompiledQuery): Promise<QueryResult<R>> {
    const { command, rowCount, rows } = await this.run(sql, parameters).catch((error: unknown) => {
      throw storeError(error);
    });
    const changes = command === 'INSERT' || command === 'UPDATE' || command === 'DELETE';
    return { rows: rows as R[], ...(changes && { numAffectedRows: BigInt(rowCount ?? 0) }) };
  }

  /** Runs one statement, or several without parameters, which give an array of results. */
  async run<R = PgResult>(text: string, parameters: readonly unknown[] = []): Promise<R> {
    if (this.lost !== null) throw this.lost;
    try {
      return (await this.#client.query(text, parameters.map(storable))) as R;
    } catch (error) {
      if (isUnreachable(error)) this.lost = error as Error;
      throw error;
    }
  }

  release(): void {
    this.#client.release(this.lost ?? undefined);
  }

  streamQuery(): AsyncIterableIterator<never> {
    throw new Error('the stores read whole results');
  }
}

class PoolDriver implements Driver {
  readonly #pool: Pool;
  readonly #end: () => Promise<void>;

  constructor(pool: Pool, end: () => Promise<void>) {
    this.#pool = pool;
    this.#end = end;
  }

  async init(): Promise<void> {}

  async acquireConnection(): Promise<PoolConnection> {
    try {
      return new PoolConnection(await this.#pool.connect());
    } catch (error) {
      throw storeError(error);
    }
  }

  async beginTransaction(connection: DatabaseConnection): Promise<void> {
    const own = connection as PoolConnection;
    try {
      const [, named] = await own.run<[QueryArrayResult, PgResult<{ id: string }>]>(
        'begin isolation level read committed read write; select pg_current_xact_id()::text as id',
      );
      own.transaction = named.rows[0]?.id ?? '';
    } catch (error) {
      throw storeError(error);
    }
  }

  async commitTransaction(connection: DatabaseConnection): Promise<void> {
    const own = connection as PoolConnection;
    const { command } = await own.run('commit').catch((error: unknown) => {
      throw own.lost === null ? storeError(error) : new LostCommitError(own.transaction, error);
    });
    if (command !== 'COMMIT') throw new Error('the transaction was rolled back, as a statement of it had failed');
  }

  /** The database rolls back by itself what was begun on a lost connection. */
  async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    const own = connection as PoolConnection;
    if (own.lost !== null) return;
    // What failed before is what is to be told; a connection that cannot roll back is lost.
    await own.run('rollback').catch((error: unknown) => {
      own.lost = error as Error;
    });
  }

  async releaseConnection(connection: DatabaseConnection): Promise<void> {
    (connection as PoolConnection).release();
  }

  async destroy(): Promise<void> {
    await this.#end();
  }
}
