import { constants, type Stats } from 'node:fs';
import { mkdir, open, rmdir, unlink, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { FileInput } from '@sallyport/protocol';
import { SallyportError } from '../engine/errors.ts';
import type { User } from './slots.ts';

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY } = constants;

/** A directory that is held open, so that nothing put in its place later can lead elsewhere. */
interface Held {
  readonly handle: FileHandle;
  readonly path: string;
}

/**
 * Writes files below a directory that a hostile process may be changing at the same time. Every step goes through an
 * open directory and refuses links, and a file that exists is replaced, not written into: nothing outside is reached.
 * New files and directories belong to the user (null: us). Rejects with `workspace_not_accessible` when something is
 * in the way, with `validation_failed` when a path is not plainly relative.
 */
export async function writeFilesBelow(root: string, files: readonly FileInput[], user: User | null): Promise<void> {
  for (const { path, content } of files) {
    const names = path.split('/');
    if (names.some((name) => name === '' || name === '.' || name === '..' || name.includes('\0'))) {
      throw new SallyportError('validation_failed', { cause: new Error('path of a file is not plainly relative') });
    }
    try {
      await writeOne(root, names, content, user);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      const inTheWay = ['ELOOP', 'ENOTDIR', 'EISDIR', 'EEXIST', 'ENOTEMPTY', 'EACCES', 'EPERM', 'EMLINK', 'ENOENT'];
      throw inTheWay.includes(code ?? '') ? new SallyportError('workspace_not_accessible', { cause: error }) : error;
    }
  }
}

async function writeOne(root: string, names: readonly string[], content: string, user: User | null): Promise<void> {
  const held: Held[] = [await hold(root)];
  try {
    for (const name of names.slice(0, -1)) held.push(await enter(held.at(-1)!, name, user));
    const target = within(held.at(-1)!, names.at(-1)!);
    await unlink(target).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code === 'EISDIR' || error.code === 'EPERM') return rmdir(target);
      if (error.code !== 'ENOENT') throw error;
    });
    const file = await open(target, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o644);
    try {
      await file.writeFile(content, 'utf8');
      if (user) await file.chown(user.uid, user.gid);
    } finally {
      await file.close();
    }
  } finally {
    for (const { handle } of held) await handle.close();
  }
}

const hold = async (path: string): Promise<Held> => ({
  handle: await open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW),
  path,
});

/** Enters a directory, making it if it is not there. */
async function enter(parent: Held, name: string, user: User | null): Promise<Held> {
  const path = within(parent, name);
  const made = await mkdir(path, 0o755).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
      return false;
    },
  );
  const child = await hold(path);
  if (made && user) {
    // Whoever swapped the new directory for another one would get that one: it must be ours and as it was made.
    const stats: Stats = await child.handle.stat();
    if (stats.uid === (process.getuid?.() ?? stats.uid)) await child.handle.chown(user.uid, user.gid);
  }
  return child;
}

/** A name inside the held directory, by its handle where the system lets us. */
const within = (directory: Held, name: string): string =>
  join(process.platform === 'linux' ? `/proc/self/fd/${directory.handle.fd}` : directory.path, name);
