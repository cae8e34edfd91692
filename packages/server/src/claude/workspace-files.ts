import type { Stats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { SallyportError } from '../engine/errors.ts';
import type { FilesOf, WorkspaceFiles } from '../engine/ports.ts';
import { listBelow } from './file-listing.ts';
import {
  absence,
  below,
  hold,
  isAbsence,
  mustAllow,
  namesOf,
  nullIfAbsent,
  O_DIRECTORY,
  openHeld,
  readable,
  type Root,
} from './held-entries.ts';
import { keptName, versionsOf } from './kept-files.ts';
import { anyPlace, type KeptPlace } from './kept-place.ts';
import type { User } from './slots.ts';

/** Most often that a slot is read again because its files were replaced meanwhile. */
const maxVersions = 10;

/**
 * Reads the files of slots from where they are kept (`keptDir`, see `createKeptFiles`) and those of projects in place,
 * where a hostile process may be changing them at the same time. Every step goes through what is held open and follows
 * no link, from the root of the file system on, and only regular files are opened. Where we are root, a project gives
 * only what its owner may read, or what anybody may where that is root.
 *
 * `list` is ordered by path. It looks at 50 000 entries and 64 levels at most and says `more` where that was not enough.
 * It leaves out what cannot be read, names that are not UTF-8, and all that is in directories named `.git` and
 * `node_modules`, though files there can be opened. Where a project is gone or closed to us it rejects with
 * `workspace_not_accessible`.
 *
 * Where `keptPlace` is not there, what is kept rejects with `not_ready`.
 *
 * `open` gives null for paths that are not plainly relative. The stream has exactly `size` bytes: what is added to the
 * file later is left out, and an error ends it where the file has become shorter. It must be read to its end or be
 * destroyed. A file that is written meanwhile may come mixed, but one of a slot comes as one turn left it.
 */
export function createWorkspaceFiles(options: {
  readonly keptDir: string;
  readonly keptPlace?: Pick<KeptPlace, 'check'>;
}): WorkspaceFiles {
  const { keptDir, keptPlace = anyPlace } = options;
  const keptPath = ({ tenant, session }: FilesOf) => join(keptDir, keptName(tenant, session));
  return {
    async list(of, limit) {
      const read = (root: Root) => listBelow(root, root.reader, limit);
      if (of.projectPath === null) {
        await keptPlace.check();
        return (await inKept(keptPath(of), read, () => true)) ?? { files: [], more: false };
      }
      return inProject(of.projectPath, read).catch((error: unknown) => {
        throw isAbsence(error) ? new SallyportError('workspace_not_accessible', { cause: error }) : error;
      });
    },
    async open(of, path) {
      const names = namesOf(path);
      if (!names) return null;
      const read = (root: Root) => nullIfAbsent(openBelow(root, names));
      if (of.projectPath === null) {
        await keptPlace.check();
        return inKept(keptPath(of), read, (found) => found === null);
      }
      return nullIfAbsent(inProject(of.projectPath, read));
    },
  };
}

/** The newest version of what is kept in a directory; null when there is none. */
async function holdKept(path: string): Promise<Root | null> {
  for (let looked = 0; looked < maxVersions; looked += 1) {
    const versions = await versionsOf(path);
    if (versions.length === 0) return null;
    for (const version of versions) {
      const held = await nullIfAbsent(hold(version.path, O_DIRECTORY));
      if (held) return { ...held, reader: null };
    }
  }
  return null;
}

/** Reads what is kept; where `isOpen` says so of what was found, again if it was replaced meanwhile. */
async function inKept<T>(
  path: string,
  read: (root: Root) => Promise<T>,
  isOpen: (found: T | null) => boolean,
): Promise<T | null> {
  for (let version = 1; ; version += 1) {
    const root = await holdKept(path);
    if (!root) return null;
    try {
      const found = await nullIfAbsent(read(root));
      if (!isOpen(found) || version === maxVersions || (await isCurrent(path, root))) return found;
    } finally {
      await root.handle.close();
    }
  }
}

async function isCurrent(path: string, root: Root): Promise<boolean> {
  const now = await holdKept(path);
  if (!now) return true;
  try {
    const [was, is] = [await root.handle.stat({ bigint: true }), await now.handle.stat({ bigint: true })];
    return was.ino === is.ino && was.dev === is.dev;
  } finally {
    await now.handle.close();
  }
}

async function inProject<T>(path: string, read: (root: Root) => Promise<T>): Promise<T> {
  const names = path.startsWith('/') ? namesOf(path.slice(1)) : null;
  if (!names) throw absence(`${path} is not a real path`);
  const system: Root = { ...(await hold('/', O_DIRECTORY)), reader: null };
  try {
    const project = await below(system, names, O_DIRECTORY);
    try {
      return await read({ ...project, reader: readerOf(await project.handle.stat()) });
    } finally {
      await project.handle.close();
    }
  } finally {
    await system.handle.close();
  }
}

/** For whom a project is read: the user its processes run as, see `planJail`. One that is nobody's has ids of no file. */
function readerOf({ uid, gid }: Stats): User | null {
  if (process.getuid?.() !== 0) return null;
  return uid === 0 ? { uid: -1, gid: -1 } : { uid, gid: gid === 0 ? uid : gid };
}

async function openBelow(root: Root, names: readonly string[]): Promise<{ size: number; content: Readable } | null> {
  const held = await below(root, names, 0);
  try {
    if (!(await held.handle.stat()).isFile()) return null;
    const file = await openHeld(held);
    try {
      const stats = await file.stat();
      if (!stats.isFile()) throw absence('not a file any more');
      mustAllow(stats, root.reader, readable);
      return { size: stats.size, content: contentOf(file, stats.size) };
    } catch (error) {
      await file.close();
      throw error;
    }
  } finally {
    await held.handle.close();
  }
}

/** The first `size` bytes of a file, which is closed with the stream. */
function contentOf(file: FileHandle, size: number): Readable {
  const content = Readable.from(pieces(file, size), { objectMode: false });
  // Not in the generator: one that was never asked for anything never gets to its end.
  content.once('close', () => void file.close().catch(() => {}));
  return content;
}

async function* pieces(file: FileHandle, size: number): AsyncGenerator<Buffer> {
  for (let position = 0; position < size;) {
    const length = Math.min(65_536, size - position);
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(length), 0, length, position);
    if (bytesRead === 0) throw new Error('the file has become shorter while it was read');
    position += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}
