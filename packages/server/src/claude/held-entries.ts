import { constants, type Stats } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { User } from './slots.ts';

/** For `hold` and `below`: only a directory. */
export const { O_DIRECTORY } = constants;
const { O_NOCTTY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;
const isLinux = process.platform === 'linux';
const readOnly = O_RDONLY | O_NONBLOCK | O_NOCTTY;
/** On Linux (O_PATH) what is held is not opened, which a pipe or a device could notice. */
const holdOnly = isLinux ? 0o10000000 : readOnly;

/** Most names in a path. */
export const maxNames = 64;

/** An entry that is held, so that nothing put in its place later can lead elsewhere. */
export interface Held {
  readonly handle: FileHandle;
  readonly path: string;
}

export interface Root extends Held {
  /** For whom it is read; null: for us, and the system judges. */
  readonly reader: User | null;
}

/** Holds an entry without following it where it is a link. */
export const hold = async (path: string, flags = 0): Promise<Held> => ({
  handle: await open(path, holdOnly | O_NOFOLLOW | flags),
  path,
});

/** What is held, or a name in it, by its handle where the system lets us. */
export const at = ({ handle, path }: Held, name = ''): string =>
  join(isLinux ? `/proc/self/fd/${handle.fd}` : path, name);

/** The names of a path that is plainly relative; null for any other. */
export function namesOf(path: string): readonly string[] | null {
  const names = path.split('/');
  const isPlain = names.every((name) => name !== '' && name !== '.' && name !== '..' && !name.includes('\0'));
  return isPlain && names.length <= maxNames ? names : null;
}

const absences = ['ENOENT', 'ENOTDIR', 'ELOOP', 'EACCES', 'EPERM', 'ENAMETOOLONG', 'EAGAIN', 'ESTALE'];

/** True when something is not there, is a link, or is closed to us. */
export const isAbsence = (error: unknown): boolean => absences.includes((error as NodeJS.ErrnoException).code ?? '');

/** The value of the work, or null where it met an absence. */
export const nullIfAbsent = <T>(work: Promise<T>): Promise<T | null> =>
  work.catch((error: unknown) => {
    if (!isAbsence(error)) throw error;
    return null;
  });

/** Rights as in the last digit of a mode. */
export const [readable, enterable] = [4, 1];

/** Throws an absence unless the reader has the rights. */
export function mustAllow({ mode, uid, gid }: Stats, reader: User | null, rights: number): void {
  if (!reader) return;
  const shift = uid === reader.uid ? 6 : gid === reader.gid ? 3 : 0;
  if (((mode >> shift) & rights) !== rights) throw absence('closed to the user of the project');
}

/** What is thrown where something is not there for the reader. */
export const absence = (message: string): Error => Object.assign(new Error(message), { code: 'EACCES' });

/** Opens a held file for reading, without waiting for anybody. What it is must be looked at again. */
export const openHeld = (held: Held): Promise<FileHandle> => open(at(held), isLinux ? readOnly : readOnly | O_NOFOLLOW);

/** Holds what is below a root; on the way there are only directories. `flags` are for the last step. */
export async function below(root: Root, names: readonly string[], flags: number): Promise<Held> {
  let held: Held = root;
  for (const [index, name] of names.entries()) {
    const parent = held;
    try {
      mustAllow(await parent.handle.stat(), root.reader, enterable);
      held = await hold(at(parent, name), index === names.length - 1 ? flags : O_DIRECTORY);
    } finally {
      if (parent !== root) await parent.handle.close();
    }
  }
  return held;
}
