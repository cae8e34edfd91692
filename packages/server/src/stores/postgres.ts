import { setTimeout as sleep } from 'node:timers/promises';
import { Kysely, sql } from 'kysely';
import pg from 'pg';
import type { Clock } from '../engine/clock.ts';
import { SallyportError } from '../engine/errors.ts';
import { randomFraction } from '../engine/ids.ts';
import type { Database, Work } from './database.ts';
import { migrate } from './migrate.ts';
import { LostCommitError, postgresDialect } from './postgres-driver.ts';
import { isPassing } from './postgres-errors.ts';
import { Sockets } from './postgres-sockets.ts';
import type { Schema } from './schema.ts';

/** What bounds the work with the database, in milliseconds but for `connections`. */
export interface PostgresBounds {
  /** Most connections of this process for reads and writes. */
  readonly connections: number;
  /** For a connection, also one of the pool that is to be free. */
  readonly connectMs: number;
  /** For a lock of a row that another transaction holds. */
  readonly lockMs: number;
  /** For a statement, as the server counts. */
  readonly statementMs: number;
  /** For a statement, as this process counts: what a server that does not answer costs. */
  readonly answerMs: number;
  /** After which the server ends a transaction whose process says nothing. */
  readonly idleMs: number;
  /** How long a write is tried again while the database cannot be reached. */
  readonly patienceMs: number;
  /** For a migration, the wait for another process that migrates included. */
  readonly migrationMs: number;
}

export const postgresBounds: PostgresBounds = {
  connections: 10,
  connectMs: 5000,
  lockMs: 5000,
  statementMs: 10_000,
  answerMs: 12_000,
  idleMs: 15_000,
  patienceMs: 5000,
  migrationMs: 600_000,
};

export interface PostgresOptions {
  /** As `postgres://user:password@host:5432/database`, with the parameters that `pg` knows. */
  readonly url: string;
  readonly clock: Clock;
  /** Default: `postgresBounds`. */
  readonly bounds?: Partial<PostgresBounds>;
}

/** Where a database is, without user, password and parameters: `host:port/name`. */
export function placeOf(url: string): string {
  const { hostname, port, pathname, searchParams } = new URL(url);
  return `${searchParams.get('host') ?? hostname}${port && `:${port}`}${decodeURIComponent(pathname)}`;
}

/**
 * Opens a Postgres database, which other nodes of the service may use too, and brings its schema up to date. Rejects with
 * one readable line when it cannot be reached, was written by a newer version, or does not keep text as UTF-8.
 */
export async function openPostgres({ url, clock, bounds: given }: PostgresOptions): Promise<Database> {
  const bounds = { ...postgresBounds, ...given };
  try {
    await migrateDatabase(url, bounds);
    return createPostgresDatabase({ connection: connectPostgres(url, bounds), clock, bounds });
  } catch (error) {
    throw unusable(url, error);
  }
}

/** What the database says it is. Rejects with one readable line when it cannot be reached. */
export async function postgresVersion(url: string): Promise<string> {
  const connection = connectPostgres(url);
  try {
    const { rows } = await sql<{ server_version: string }>`show server_version`.execute(connection);
    return `PostgreSQL ${rows[0]?.server_version}`;
  } catch (error) {
    throw unusable(url, error);
  } finally {
    await connection.destroy();
  }
}

const unusable = (url: string, error: unknown): Error =>
  new Error(`cannot use the database at ${placeOf(url)}: ${reason(error)}`, { cause: error });

/** Brings the schema up to date, with time for it and for other processes that do the same. */
async function migrateDatabase(url: string, bounds: PostgresBounds): Promise<void> {
  const { migrationMs } = bounds;
  const patient = { ...bounds, statementMs: migrationMs, answerMs: migrationMs, lockMs: migrationMs, connections: 1 };
  const connection = connectPostgres(url, patient);
  try {
    const { rows } = await sql<{ server_encoding: string }>`show server_encoding`.execute(connection);
    const encoding = rows[0]?.server_encoding;
    if (encoding !== 'UTF8') throw new Error(`it keeps text as ${encoding}; make one with the encoding UTF8`);
    await migrate(connection);
  } finally {
    await connection.destroy();
  }
}

/** A pool of connections. Makes none before the first is needed. */
export function connectPostgres(url: string, bounds: PostgresBounds = postgresBounds): Kysely<Schema> {
  const sockets = new Sockets();
  const pool = new pg.Pool({ ...connectionOf(url, bounds), max: bounds.connections, stream: sockets.make });
  // A connection that breaks while nothing runs on it would end the process; what runs on it hears of it.
  pool.on('error', () => undefined);
  pool.on('connect', (client) => client.on('error', () => undefined));
  return new Kysely<Schema>({ dialect: postgresDialect(pool, () => sockets.end(pool)) });
}

function connectionOf(url: string, bounds: PostgresBounds): pg.ClientConfig {
  return {
    connectionString: url,
    application_name: `sallyport ${process.pid}`,
    connectionTimeoutMillis: bounds.connectMs,
    lock_timeout: bounds.lockMs,
    statement_timeout: bounds.statementMs,
    query_timeout: bounds.answerMs,
    idle_in_transaction_session_timeout: bounds.idleMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    types,
  };
}

/** 64-bit integers and their sums come as numbers, as in SQLite; too large ones fail. */
const types: pg.CustomTypesConfig = {
  getTypeParser: (id: number, format?: 'text' | 'binary') =>
    integers.includes(id) ? wholeNumber : (pg.types.getTypeParser(id, format) as (text: string) => unknown),
};
const integers: readonly number[] = [pg.types.builtins.INT8, pg.types.builtins.NUMERIC];

function wholeNumber(text: string): number {
  const number = Number(text);
  if (!Number.isSafeInteger(number))
    throw new RangeError(`the database gave ${text}, which is no number to count with`);
  return number;
}

export interface PostgresParts {
  /** Becomes the database's to close. */
  readonly connection: Kysely<Schema>;
  readonly clock: Clock;
  readonly bounds: PostgresBounds;
}

/** The database on a schema that is up to date. Writes of different lanes happen at once, also with those of others. */
export function createPostgresDatabase(parts: PostgresParts): Database {
  const { connection } = parts;
  const lanes = new Map<string, Promise<unknown>>();
  const begun = new Set<Promise<unknown>>();
  let closed = false;
  /** Begins when the last write of the lane is over, however it ended. */
  const inLane = <T>(lane: string, write: () => Promise<T>): Promise<T> => {
    const done = (lanes.get(lane) ?? Promise.resolve()).then(write);
    const over = done.then(
      () => undefined,
      () => undefined,
    );
    lanes.set(lane, over);
    void over.then(() => lanes.get(lane) === over && lanes.delete(lane));
    return done;
  };
  const write = async <T>(work: Work<T>, lane?: string): Promise<T> => {
    if (closed) throw new Error('the database is closed');
    const patiently = () => writePatiently(parts, work);
    const done = lane === undefined ? patiently() : inLane(lane, patiently);
    const over = done.catch(() => undefined).finally(() => begun.delete(over));
    begun.add(over);
    return await done;
  };
  return {
    read: connection,
    write,
    writeSoon: (work, lane) =>
      write(async (transaction) => {
        await sql`set local synchronous_commit = off`.execute(transaction);
        return await work(transaction);
      }, lane),
    async alone(transaction, thing) {
      const name = JSON.stringify(thing);
      await sql`select pg_advisory_xact_lock(hashtextextended(${name}, 0))`.execute(transaction);
    },
    holding: (query) => query.forNoKeyUpdate('turns'),
    async close() {
      closed = true;
      await Promise.all(begun);
      await connection.destroy();
    },
  };
}

/**
 * Runs the work in a transaction, again while the database cannot be reached or its transactions are in each other's way.
 * Where the answer to the commit is lost it finds out what became of it, so that nothing is done twice.
 */
async function writePatiently<T>({ connection, clock, bounds }: PostgresParts, work: Work<T>): Promise<T> {
  const until = clock.monotonic() + bounds.patienceMs;
  const isLate = () => clock.monotonic() >= until;
  for (let longest = 50; ; longest = Math.min(longest * 2, 1000)) {
    let result: T | undefined;
    try {
      return await connection.transaction().execute(async (transaction) => (result = await work(transaction)));
    } catch (error) {
      const lost = error instanceof LostCommitError;
      if (lost && (await wasCommitted(connection, error, isLate))) return result as T;
      if (!lost && (!isPassing(causeOf(error)) || isLate())) throw error;
    }
    await sleep(longest * (0.5 + randomFraction() / 2));
  }
}

const causeOf = (error: unknown): unknown => (error instanceof SallyportError ? error.cause : error);

/** True when the transaction is in the database, false when it never will be. Rejects when that is not known in time. */
async function wasCommitted(db: Kysely<Schema>, lost: LostCommitError, isLate: () => boolean): Promise<boolean> {
  for (;;) {
    const status = await statusOf(db, lost.transaction).catch((error: unknown) => {
      if (!isPassing(causeOf(error))) throw error;
      return 'unknown';
    });
    if (status === 'committed') return true;
    if (status === 'aborted') return false;
    if (isLate()) throw new SallyportError('not_ready', { cause: lost });
    await sleep(50);
  }
}

/** Ends the connection that the transaction runs on, if it still does: nobody is there to commit it. */
async function statusOf(db: Kysely<Schema>, transaction: string): Promise<string | null> {
  const { rows } = await sql<{ status: string | null }>`
    select pg_xact_status(${transaction}::xid8) as status,
      (select count(pg_terminate_backend(pid)) from pg_stat_activity
        where datname = current_database() and backend_xid = ${transaction}::xid8::xid) as ended`.execute(db);
  return rows[0]?.status ?? null;
}

/** Of what failed on several addresses, the first failure; of what is told to clients, the cause. */
function reason(error: unknown): string {
  const { errors } = error as { errors?: unknown };
  if (Array.isArray(errors) && errors.length > 0) return reason(errors[0]);
  const cause = causeOf(error);
  if (cause !== error && cause !== undefined) return reason(cause);
  const message = error instanceof Error ? error.message : String(error);
  return message.split('\n')[0] ?? '';
}
