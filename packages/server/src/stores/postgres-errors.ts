import { SallyportError } from '../engine/errors.ts';

/** Messages of `pg` for what has no code: a connection that is gone or did not answer in time. */
const connectionMessages = /^(Connection terminated|Client (has encountered|was closed)|Query read timeout|timeout e)/;

/**
 * SQLSTATE classes and codes of a database that cannot be worked with at the moment: connection exceptions, shutdown,
 * too many connections, and a server that only reads, as one that has been failed over.
 */
const unreachableStates = /^(08|57P|53300|25006)/;

/** Deadlock and serialization failure: the same transaction again may succeed. */
const conflictStates = new Set(['40P01', '40001']);

/** A statement or a lock took too long, or the transaction was idle for too long. */
const timeoutStates = new Set(['57014', '55P03', '25P03', '25P04']);

interface Failure {
  readonly code?: unknown;
  readonly severity?: unknown;
}

const stateOf = (error: unknown): string => {
  const { code } = error as Failure;
  return typeof code === 'string' ? code : '';
};

/** True when the connection, or the whole database, was lost or is not there: a transaction on it was not committed. */
export function isUnreachable(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { severity } = error as Failure;
  const state = stateOf(error);
  if (severity === 'FATAL' || severity === 'PANIC') return true;
  // Codes of the system, as ECONNREFUSED, and not those of Node.
  if (/^E(?!RR_)[A-Z_]+$/.test(state)) return true;
  return unreachableStates.test(state) || connectionMessages.test(error.message);
}

/** True when the same transaction may succeed when it is run again. */
export const isPassing = (error: unknown): boolean => isUnreachable(error) || conflictStates.has(stateOf(error));

/**
 * The error that the stores reject with: `not_ready` for a database that cannot be reached or does not answer in time,
 * `storage_full` for one that is full, anything else as it is.
 */
export function storeError(error: unknown): unknown {
  if (error instanceof SallyportError) return error;
  if (isPassing(error) || timeoutStates.has(stateOf(error))) return new SallyportError('not_ready', { cause: error });
  // The database's disk, not ours: `ENOSPC` never comes from a connection.
  return stateOf(error) === '53100' ? new SallyportError('storage_full', { cause: error }) : error;
}
