import { createHash } from 'node:crypto';
import { execFile, spawn } from 'node:child_process';
import { chmod, chown, lstat, mkdir, opendir, readdir, realpath, rm, rmdir, unlink, writeFile } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import { dirname, isAbsolute, join, relative, sep } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { SallyportError } from '../engine/errors.ts';
import { isShortage } from './shortage.ts';

/** The user a process runs as. */
export interface User {
  readonly uid: number;
  readonly gid: number;
}

/** What the run directory holds. */
export interface RunDirectory {
  readonly path: string;
  /** Where the broker listens. */
  readonly brokerSocket: string;
}

/** Longest socket path that every system takes, in bytes. */
const socketPathBytes = 100;

/** The names inside a run directory. */
export const layout = (runDir: string) => ({
  jails: join(runDir, 'jails'),
  stage: join(runDir, 'stage'),
  broker: join(runDir, 'broker'),
  brokerSocket: join(runDir, 'broker', 'api.sock'),
});

/** The default run directory of a data directory: below the system's temporary directory, one per user and data directory. */
export function defaultRunDirectory(temporary: string, dataDir: string): string {
  const digest = createHash('sha256').update(dataDir).digest('hex').slice(0, 8);
  return join(temporary, `sallyport-${process.getuid?.() ?? 0}-${digest}`);
}

/**
 * Makes the run directory (mode 0711, ours) or takes the one that is there. Throws `not_ready` when something at that
 * path is a link or somebody else's, or when the path is too long for a socket.
 */
export async function prepareRunDirectory(path: string): Promise<RunDirectory> {
  const refuse = (why: string) =>
    new SallyportError('not_ready', { cause: new Error(`run directory ${path}: ${why}`) });
  if (!isAbsolute(path)) throw refuse('it must be an absolute path');
  const { jails, stage, broker, brokerSocket } = layout(path);
  if (Buffer.byteLength(brokerSocket) >= socketPathBytes) throw refuse('its path is too long for a socket');
  for (const directory of [path, jails, stage, broker]) {
    await mkdir(directory, { mode: 0o711 }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw refuse(error.message);
    });
    const found = await lstat(directory);
    if (!found.isDirectory()) throw refuse(`${directory} is not a directory of its own`);
    if (process.getuid && found.uid !== process.getuid()) throw refuse(`${directory} belongs to another user`);
    await chmod(directory, 0o711);
  }
  const closed = process.getuid?.() === 0 ? await closedAbove(path) : null;
  if (closed !== null) throw refuse(`the users that Claude Code runs as cannot pass ${closed}; set SALLYPORT_RUN_DIR`);
  return { path, brokerSocket };
}

/** The outermost directory above a path that not everybody may pass; null when there is none. */
async function closedAbove(path: string): Promise<string | null> {
  const parent = dirname(await realpath(path));
  const above = parent.split('/').map((_, index, parts) => parts.slice(0, index + 1).join('/') || '/');
  for (const directory of above) if (((await lstat(directory)).mode & 0o001) === 0) return directory;
  return null;
}

/** Deletes the run directory of a server that is closing, unless something is left in it. Never rejects. */
export async function removeRunDirectory(path: string): Promise<void> {
  const { jails, stage, broker } = layout(path);
  // One by one, never recursively: these are mount points, and what is mounted on them is not ours.
  for (const name of await readdir(stage).catch(() => [])) {
    const point = join(stage, name);
    await (name.startsWith('file') ? unlink(point) : rmdir(point)).catch(() => {});
  }
  await rm(join(path, 'claude'), { force: true }).catch(() => {});
  for (const directory of [jails, stage, broker, path]) await rmdir(directory).catch(() => {});
}

/** True when the path is one of the directories or inside one. Both sides must be real paths. */
export function isInside(path: string, directories: readonly string[]): boolean {
  return directories.some((directory) => {
    const way = relative(directory, path);
    return way === '' || (way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way));
  });
}

/**
 * True when a real path must never be a workspace: it is a directory of the service (data, run) or inside one, or one
 * that the walls themselves are made of.
 */
export function isProtected(path: string, own: readonly string[]): boolean {
  return ['/', '/tmp'].includes(path) || isInside(path, ['/proc', '/sys', '/dev', '/.sallyport', ...own]);
}

/** Hands out users that no other process of the machine has. */
export interface Users {
  take(): User;
  free(user: User): void;
}

/**
 * The users of a server that runs as root: ids of their own for its jails, from a part of the id space that neither
 * accounts nor containers use. Null when this server cannot switch users.
 */
export function createUsers(runDir: string): Users | null {
  if (process.getuid?.() !== 0) return null;
  const share = createHash('sha256').update(runDir).digest().readUInt16BE();
  // 0x70000000 is free of accounts by convention; where only 16 bits of ids are mapped (rootless containers), 50000 is.
  const base = [0x70000000 + share * 1000, 50_000 + (share % 9) * 1000].find((first) => isMapped(first, 1000));
  if (base === undefined) return null;
  const used = new Set<number>();
  let last = base - 1;
  return {
    take() {
      for (let tried = 0; tried < 1000; tried += 1) {
        last = base + ((last - base + 1) % 1000);
        if (used.has(last)) continue;
        used.add(last);
        return { uid: last, gid: last };
      }
      throw new SallyportError('overloaded', { cause: new Error('all users of the jails are taken') });
    },
    free: ({ uid }) => void used.delete(uid),
  };
}

/** True when the ids exist in this user namespace. */
function isMapped(first: number, count: number): boolean {
  const covers = (file: string) => {
    try {
      return readFileSync(file, 'latin1')
        .trim()
        .split('\n')
        .map((line) => line.trim().split(/\s+/).map(Number))
        .some(([start = 0, , length = 0]) => start <= first && first + count <= start + length);
    } catch {
      return process.platform !== 'linux';
    }
  };
  return covers('/proc/self/uid_map') && covers('/proc/self/gid_map');
}

/** The directories of one process, on the host. */
export interface Place {
  readonly directory: string;
  readonly config: string;
  readonly slot: string;
  readonly home: string;
  readonly temporary: string;
  readonly passwd: string;
  readonly group: string;
}

/** Makes the directories of one process: the outer one ours, the inner ones closed to all but the user (null: us). */
export async function makePlace(runDir: string, id: string, user: User | null): Promise<Place> {
  const directory = join(layout(runDir).jails, id);
  const at = (name: string) => join(directory, name);
  await mkdir(directory, { mode: 0o711 });
  await chmod(directory, 0o711);
  const place: Place = {
    directory,
    config: at('config'),
    slot: at('slot'),
    home: at('home'),
    temporary: at('tmp'),
    passwd: at('passwd'),
    group: at('group'),
  };
  for (const path of [place.config, place.slot, place.home, place.temporary]) {
    await mkdir(path, { mode: 0o700 });
    await chmod(path, 0o700);
    if (user) await chown(path, user.uid, user.gid);
  }
  const uid = user?.uid ?? process.getuid?.() ?? 0;
  const gid = user?.gid ?? process.getgid?.() ?? 0;
  await writeFile(place.passwd, `root:x:0:0::/:/bin/sh\nclaude:x:${uid}:${gid}::/tmp/home:/bin/sh\n`, { mode: 0o644 });
  await writeFile(place.group, `root:x:0:\nclaude:x:${gid}:\n`, { mode: 0o644 });
  return place;
}

/**
 * True when the user (null: us) may read, enter and for `rw` write the directory. `parents: false` judges the
 * directory alone, as for a process that gets it mounted.
 */
export function mayUse(
  user: User | null,
  directory: string,
  { access, parents }: { access: 'ro' | 'rw'; parents: boolean },
): Promise<boolean> {
  const script = 'test -d "$1" && test -r "$1" && test -x "$1" && { test "$2" = ro || test -w "$1"; }';
  // The child changes into the directory before it changes its user, so the parents are passed as ourselves.
  return succeeds(script, [parents ? directory : '.', access], { cwd: parents ? '/' : directory, user });
}

/** True when the user (null: us) can run the program. */
export function mayRun(user: User | null, program: string): Promise<boolean> {
  return succeeds('test -f "$1" && test -x "$1"', [program], { cwd: '/', user });
}

function succeeds(script: string, args: string[], { cwd, user }: { cwd: string; user: User | null }): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const child = spawn('/bin/sh', ['-c', script, 'sh', ...args], { cwd, env: {}, stdio: 'ignore', ...user });
    child.once('error', (error) => (isShortage(error) ? reject(error) : resolve(false)));
    child.once('exit', (code) => resolve(code === 0));
  });
}

/**
 * Deletes a tree whose processes are gone, also where directories have lost their permissions. Never follows a link.
 * Waits up to a minute for a system that gives no more files.
 */
export async function deleteTree(path: string): Promise<void> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      await rm(path, { recursive: true, force: true });
      return;
    } catch (error) {
      const short = isShortage(error);
      if (attempt >= (short ? 60 : 3)) throw error;
      // A tree can be deeper than a path can be long. This program goes down step by step.
      if (isTooDeep(error)) await promisify(execFile)('/bin/rm', ['-rf', '--', path], { env: {} }).catch(() => {});
      else if (!short) await openUp(path);
      await delay(short ? 1_000 : 20);
    }
  }
}

const isTooDeep = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENAMETOOLONG';

async function openUp(path: string): Promise<void> {
  const found = await lstat(path).catch(() => null);
  if (!found?.isDirectory()) return;
  await chmod(path, 0o700);
  for await (const entry of await opendir(path)) if (entry.isDirectory()) await openUp(join(path, entry.name));
}
