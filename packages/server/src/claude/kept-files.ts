import { createHash } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { chmod, copyFile, lchown, lstat, mkdir, opendir, readlink, rename, symlink, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { SallyportError } from '../engine/errors.ts';
import { deleteTree, type User } from './slots.ts';

/** What is kept of slots between the turns of conversations. Per name there may be one call at a time. */
export interface KeptFiles {
  /**
   * Copies what is kept under the name into an empty directory; the copies belong to the user (null: us). Nothing when
   * nothing is kept. What is kept stays.
   */
  restore(name: string, directory: string, user: User | null): Promise<void>;
  /**
   * Replaces what is kept under the name by a copy of the directory, whose processes must be gone. Rejects with
   * `storage_full` when that is more than may be kept; what was kept before stays then, as after any failure or crash.
   */
  keep(name: string, directory: string): Promise<void>;
  /**
   * Copies what is kept under one name to another under which nothing is kept; nothing when nothing is kept. After a
   * failure or crash nothing is kept under the other name, and the copy can be made again.
   */
  copy(from: string, to: string): Promise<void>;
  /** Deletes what is kept under the name. */
  forget(name: string): Promise<void>;
}

/** Most that is kept of one slot. A file counts with its full length, also where it has holes or several names. */
export interface KeptBounds {
  readonly entries: number;
  readonly bytes: number;
}

const usualBounds: KeptBounds = { entries: 100_000, bytes: 1024 ** 3 };

/** The name under which the files of a conversation are kept: that of its session with Claude Code. */
export function keptName(tenant: string, session: string): string {
  return createHash('sha256').update(`${tenant}\0${session}`).digest('hex');
}

/** Keeps files below a directory of our own, which is made (mode 0700) when it is needed. */
export function createKeptFiles(keptDir: string, bounds: KeptBounds = usualBounds): KeptFiles {
  const pathsOf = (name: string) => {
    const kept = join(keptDir, name);
    return { kept, coming: `${kept}.new`, going: `${kept}.old` };
  };

  /** Undoes what a crash left half done: of two complete versions the older one counts. */
  async function settle(name: string): Promise<void> {
    const { kept, coming, going } = pathsOf(name);
    await deleteTree(coming);
    if (await exists(kept)) await deleteTree(going);
    else if (await exists(going)) await rename(going, kept);
  }

  async function keep(name: string, directory: string): Promise<void> {
    const { kept, coming, going } = pathsOf(name);
    await mkdir(keptDir, { recursive: true, mode: 0o700 });
    await settle(name);
    try {
      await mkdir(coming, { mode: 0o700 });
      await new Copying(null, bounds).copy(directory, coming);
    } catch (error) {
      await deleteTree(coming).catch(() => {});
      throw error;
    }
    if (await exists(kept)) await rename(kept, going);
    await rename(coming, kept);
    await deleteTree(going);
  }

  return {
    keep,
    async restore(name, directory, user) {
      await settle(name);
      const { kept } = pathsOf(name);
      if (await exists(kept)) await new Copying(user, bounds).copy(kept, directory);
    },
    async copy(from, to) {
      await settle(from);
      const { kept } = pathsOf(from);
      if (await exists(kept)) await keep(to, kept);
    },
    async forget(name) {
      const { kept, coming, going } = pathsOf(name);
      for (const path of [coming, going, kept]) await deleteTree(path);
    },
  };
}

const exists = (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false;
      throw error;
    },
  );

/** Names are bytes, not always text: paths are held with one character for each byte. */
const bytes = (path: string): Buffer => Buffer.from(path, 'latin1');

/**
 * Copies a tree that nobody is changing: directories, files and links. Links are copied as such and never followed;
 * sockets, pipes and devices are left out. Permissions stay, but for those of other identities (setuid and the like)
 * and that the owner may read everything.
 */
class Copying {
  readonly #user: User | null;
  readonly #bounds: KeptBounds;
  #entries = 0;
  #bytes = 0;

  constructor(user: User | null, bounds: KeptBounds) {
    this.#user = user;
    this.#bounds = bounds;
  }

  /** Copies what is in one directory into another that is there. */
  async copy(from: string, to: string): Promise<void> {
    if (!(await lstat(from)).isDirectory()) throw new Error(`${from} is not a directory`);
    try {
      await this.#fill(Buffer.from(from).toString('latin1'), Buffer.from(to).toString('latin1'));
    } catch (error) {
      throw (error as NodeJS.ErrnoException).code === 'ENAMETOOLONG' ? tooMuch(error) : error;
    }
  }

  async #fill(from: string, to: string): Promise<void> {
    for (const name of await this.#names(from)) {
      const [source, target] = [`${from}/${name}`, `${to}/${name}`];
      const stats = await lstat(bytes(source));
      if (stats.isDirectory()) await this.#directory(source, target, stats);
      else if (stats.isFile()) await this.#file(source, target, stats);
      else if (stats.isSymbolicLink()) await this.#link(source, target);
    }
  }

  /** The directory is closed again before those in it are opened: it may be deep. */
  async #names(path: string): Promise<string[]> {
    const names: string[] = [];
    for await (const { name } of await opendir(bytes(path), { encoding: 'latin1' })) {
      this.#entries += 1;
      if (this.#entries > this.#bounds.entries) throw tooMuch(new Error(`more than ${this.#bounds.entries} entries`));
      names.push(name);
    }
    return names;
  }

  async #directory(from: string, to: string, { mode }: Stats): Promise<void> {
    if ((mode & 0o500) !== 0o500) await chmod(bytes(from), 0o700);
    await mkdir(bytes(to), { mode: 0o700 });
    await this.#fill(from, to);
    await this.#own(to);
    await chmod(bytes(to), (mode & 0o777) | 0o700);
  }

  async #file(from: string, to: string, { mode, size, atime, mtime }: Stats): Promise<void> {
    this.#bytes += size;
    if (this.#bytes > this.#bounds.bytes) throw tooMuch(new Error(`more than ${this.#bounds.bytes} bytes`));
    if ((mode & 0o400) === 0) await chmod(bytes(from), 0o600);
    await copyFile(bytes(from), bytes(to), constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
    await this.#own(to);
    await chmod(bytes(to), (mode & 0o777) | 0o400);
    await utimes(bytes(to), atime, mtime);
  }

  async #link(from: string, to: string): Promise<void> {
    await symlink(bytes(await readlink(bytes(from), 'latin1')), bytes(to));
    await this.#own(to);
  }

  async #own(path: string): Promise<void> {
    if (this.#user) await lchown(bytes(path), this.#user.uid, this.#user.gid);
  }
}

const tooMuch = (cause: unknown): SallyportError =>
  new SallyportError('storage_full', {
    cause,
    detail: 'The files of the conversation are too many or too large to be kept for its next turn.',
  });
