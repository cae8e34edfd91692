import { chmodSync, mkdirSync, readFileSync, readdirSync, realpathSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { newId } from '../engine/ids.ts';
import { lockFile, type FileLock } from './sqlite.ts';

/** The data directory while this process alone may use it. */
export interface DataDirectory {
  /** Its real path. */
  readonly path: string;
  /** The database file in it. */
  readonly database: string;
  release(): void;
}

const databaseName = 'sallyport.db';

/**
 * Makes the data directory if it is missing, closes it to other users, and locks it until `release` or the end of the
 * process, however it ends. Throws one readable line when another server has it, or when it is not ours to close.
 */
export function takeDataDirectory(directory: string): DataDirectory {
  const path = makePrivate(directory);
  const pidFile = join(path, 'server.pid');
  let lock: FileLock | null = null;
  try {
    lock = lockFile(join(path, 'lock.db'));
    if (lock !== null) writeFileSync(pidFile, `${process.pid}\n`, { mode: 0o600 });
  } catch (error) {
    lock?.release();
    throw new Error(`cannot lock the data directory ${path}: ${(error as Error).message}`, { cause: error });
  }
  if (lock === null) throw new Error(`another server${runningPid(pidFile)} already uses the data directory ${path}`);
  return { path, database: join(path, databaseName), release: () => lock.release() };
}

/**
 * The name of a data directory that is locked, which it keeps: 128 random bits, drawn when there is none. Throws when it
 * can be neither read nor written.
 */
export function placeIn(directory: string): string {
  const file = join(directory, 'place');
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    const place = newId('node');
    writeFileSync(file, `${place}\n`, { mode: 0o600, flag: 'wx' });
    return place;
  }
}

function makePrivate(directory: string): string {
  let path: string;
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    path = realpathSync(directory);
  } catch (error) {
    throw new Error(`cannot use the data directory ${directory}: ${(error as Error).message}`, { cause: error });
  }
  const { mode, uid } = statSync(path);
  if ((mode & 0o077) === 0) return path;
  const open = `the data directory ${path} is open to other users (mode ${(mode & 0o777).toString(8)})`;
  if (uid !== process.getuid?.()) throw new Error(`${open} and belongs to another one; use a directory of your own`);
  // A directory of somebody else's files, a home or /tmp, was surely not meant to be closed.
  if (!isOurs(path)) throw new Error(`${open} and holds other files; use an empty one, or chmod 700 it`);
  chmodSync(path, 0o700);
  return path;
}

function isOurs(path: string): boolean {
  const names = readdirSync(path);
  return names.length === 0 || names.includes(databaseName);
}

function runningPid(pidFile: string): string {
  try {
    const pid = readFileSync(pidFile, 'utf8').trim();
    return /^\d{1,10}$/.test(pid) ? ` (process ${pid})` : '';
  } catch {
    return '';
  }
}
