import { createHash } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import {
  chmod,
  copyFile,
  lchown,
  lstat,
  mkdir,
  opendir,
  readdir,
  readlink,
  rename,
  rm,
  rmdir,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { SallyportError } from '../engine/errors.ts';
import { anyPlace, checkedBy, type KeptPlace } from './kept-place.ts';
import { emptyDirectory } from './leftovers.ts';
import { deleteTree, type User } from './slots.ts';

/** Under which name the files of a slot are kept, and by which turn: versions of later epochs are never replaced. */
export interface KeptAs {
  /** See `keptName`. */
  readonly name: string;
  readonly epoch: number;
}

/**
 * What is kept of slots between the turns of conversations, in a directory that several nodes may share. A turn that was
 * taken over may still be writing on its first node, so there is a version for each epoch, and the newest counts. Per name
 * and epoch there may be one call at a time. All reject with `not_ready`, and touch nothing, when that directory is not there.
 */
export interface KeptFiles {
  /**
   * Copies the newest version that is not newer than the epoch into an empty directory; the copies belong to the user
   * (null: us). Nothing when there is none. What is kept stays.
   */
  restore(kept: KeptAs, directory: string, user: User | null): Promise<void>;
  /** Notes that the process of a turn may change its copy from now on. */
  begin(kept: KeptAs): Promise<void>;
  /** True unless a process has begun, of whatever epoch, whose files were not kept after it. */
  isWhole(name: string): Promise<boolean>;
  /**
   * Keeps a copy of the directory, whose processes must be gone, in place of all versions up to this epoch; not when
   * there is a newer one. Rejects with `storage_full` when that is more than may be kept; what was kept before stays
   * then, as after any failure or crash.
   */
  keep(kept: KeptAs, directory: string): Promise<void>;
  /**
   * Keeps what a process left whose server was killed; nothing when its files were kept, given up or forgotten since, or
   * when it had not begun.
   */
  salvage(kept: KeptAs, directory: string): Promise<void>;
  /** Takes what was kept last for whole: what processes have changed since is lost, whoever may still have it. */
  giveUp(name: string): Promise<void>;
  /**
   * Copies the newest version under one name to another under which nothing is kept; nothing when nothing is kept. After
   * a failure or crash nothing is kept under the other name, and the copy can be made again.
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

/** How often a version is copied again that was replaced by a newer one meanwhile. */
const tries = 5;

/** Keeps files below a directory of our own, which is made (mode 0700) when it is needed: `<name>/<epoch>`. */
export function createKeptFiles(
  keptDir: string,
  place: Pick<KeptPlace, 'check'> = anyPlace,
  bounds: KeptBounds = usualBounds,
): KeptFiles {
  const base = (name: string) => join(keptDir, name);
  const checked = checkedBy(place);

  async function keep({ name, epoch }: KeptAs, directory: string): Promise<void> {
    const kept = join(base(name), String(epoch));
    const [coming, going] = [`${kept}.new`, `${kept}.old`];
    await makeBase(keptDir, name);
    await deleteTree(coming);
    try {
      await mkdir(coming, { mode: 0o700 });
      await new Copying(null, bounds).copy(directory, coming);
    } catch (error) {
      await deleteTree(coming).catch(() => {});
      // Nothing may be kept under this name.
      await rmdir(base(name)).catch(() => {});
      throw error;
    }
    const newest = (await versionsOf(base(name)))[0];
    if (newest !== undefined && newest.epoch > epoch) return await deleteTree(coming);
    if (await exists(kept)) {
      await deleteTree(going);
      await rename(kept, going);
    }
    await rename(coming, kept);
    for (const entry of await entriesOf(base(name))) {
      if (entry.epoch < epoch || (entry.epoch === epoch && entry.path !== kept)) await deleteTree(entry.path);
    }
  }

  return {
    keep: checked(keep),
    restore: checked(({ name, epoch }, directory, user) =>
      copyNewest(base(name), epoch, directory, () => new Copying(user, bounds)),
    ),
    begin: checked(async ({ name, epoch }) => {
      await makeBase(keptDir, name);
      await writeFile(join(base(name), `${epoch}.begun`), '', { mode: 0o600 });
    }),
    isWhole: checked(async (name) => (await begunOf(base(name))).length === 0),
    salvage: checked(async (kept, directory) => {
      const begun = await begunOf(base(kept.name));
      if (begun.some(({ epoch }) => epoch === kept.epoch)) await keep(kept, directory);
    }),
    giveUp: checked(async (name) => {
      for (const { path } of await begunOf(base(name))) await rm(path, { force: true });
    }),
    copy: checked(async (from, to) => {
      const version = (await versionsOf(base(from)))[0];
      if (version !== undefined) await keep({ name: to, epoch: 0 }, version.path);
    }),
    forget: checked((name) => deleteTree(base(name))),
  };
}

/** Not in one call, which says ENOENT where nothing can be written. */
async function makeBase(keptDir: string, name: string): Promise<void> {
  await mkdir(keptDir, { recursive: true, mode: 0o700 });
  await mkdir(join(keptDir, name), { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
}

/** Copies the newest version up to an epoch, if there is one. */
async function copyNewest(base: string, epoch: number, directory: string, copying: () => Copying): Promise<void> {
  for (let tried = 1; ; tried += 1) {
    const version = (await versionsOf(base)).find((one) => one.epoch <= epoch);
    if (version === undefined) return;
    try {
      return await copying().copy(version.path, directory);
    } catch (error) {
      if (!isGone(error) || tried === tries) throw error;
      await emptyDirectory(directory);
    }
  }
}

/** An entry of a name: a version, one that is coming or going, or the note that a process has begun. */
interface KeptEntry {
  readonly epoch: number;
  readonly suffix: '' | '.new' | '.old' | '.begun';
  readonly path: string;
}

async function entriesOf(directory: string): Promise<KeptEntry[]> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (isGone(error)) return [];
    throw error;
  });
  return names.flatMap((name) => {
    const [, epoch, suffix = ''] = /^(\d{1,15})(\.new|\.old|\.begun)?$/.exec(name) ?? [];
    if (epoch === undefined) return [];
    return [{ epoch: Number(epoch), suffix: suffix as KeptEntry['suffix'], path: join(directory, name) }];
  });
}

const begunOf = async (directory: string): Promise<KeptEntry[]> =>
  (await entriesOf(directory)).filter(({ suffix }) => suffix === '.begun');

/**
 * What is kept in the directory of a name, the newest first. While a version is replaced, and after a crash in the middle
 * of that, it is beside its place.
 */
export async function versionsOf(directory: string): Promise<{ readonly epoch: number; readonly path: string }[]> {
  const whole = (await entriesOf(directory)).filter(({ suffix }) => suffix === '' || suffix === '.old');
  return whole.toSorted((one, other) => other.epoch - one.epoch || one.suffix.length - other.suffix.length);
}

const isGone = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';

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
