import { isUtf8 } from 'node:buffer';
import type { Stats } from 'node:fs';
import { lstat, opendir } from 'node:fs/promises';
import type { WorkspaceFile, WorkspaceFiles } from '../engine/ports.ts';
import {
  at,
  enterable,
  hold,
  maxNames,
  mustAllow,
  nullIfAbsent,
  O_DIRECTORY,
  readable,
  type Held,
} from './held-entries.ts';
import type { User } from './slots.ts';

/** Most entries of directories that one list looks at. */
const maxEntries = 50_000;
/** Names come as bytes, which the types of Node do not know. */
const asBytes = { encoding: 'buffer' as BufferEncoding, bufferSize: 100 };
/** Directories that are not listed: there is much in them, and nobody's work. */
const unlisted = new Set(['.git', 'node_modules']);

/**
 * Lists the regular files below a held directory as the reader (null: we) sees them, in the order of their paths, at
 * most `limit`. `more` where there are others, or where its own bounds kept it from looking further.
 */
export async function listBelow(root: Held, reader: User | null, limit: number): ReturnType<WorkspaceFiles['list']> {
  const listing = new Listing(reader, limit);
  await listing.add(root, []);
  return { files: listing.files, more: listing.more };
}

class Listing {
  readonly files: WorkspaceFile[] = [];
  more = false;
  readonly #reader: User | null;
  readonly #limit: number;
  #isFull = false;
  #entries = 0;

  constructor(reader: User | null, limit: number) {
    this.#reader = reader;
    this.#limit = limit;
  }

  async add(directory: Held, way: readonly string[]): Promise<void> {
    for (const entry of await this.#entriesOf(directory)) {
      if (this.#isFull) return;
      if (entry.endsWith('/')) await nullIfAbsent(this.#enter(directory, [...way, entry.slice(0, -1)]));
      else await nullIfAbsent(this.#file(directory, [...way, entry]));
    }
  }

  /** The names of files and, with a slash, directories, in the order of whole paths. */
  async #entriesOf(directory: Held): Promise<string[]> {
    mustAllow(await directory.handle.stat(), this.#reader, readable | enterable);
    const entries: string[] = [];
    for await (const entry of await opendir(Buffer.from(at(directory)), asBytes)) {
      if (this.#entries === maxEntries) {
        this.more = true;
        break;
      }
      this.#entries += 1;
      const bytes = entry.name as unknown as Buffer;
      const name = bytes.toString();
      if (!isUtf8(bytes)) continue;
      if (entry.isFile()) entries.push(name);
      else if (entry.isDirectory() && !unlisted.has(name)) entries.push(`${name}/`);
    }
    return entries.sort();
  }

  async #enter(parent: Held, way: readonly string[]): Promise<void> {
    if (way.length === maxNames || this.#entries === maxEntries) {
      this.more = true;
      return;
    }
    const directory = await hold(at(parent, way.at(-1)), O_DIRECTORY);
    try {
      await this.add(directory, way);
    } finally {
      await directory.handle.close();
    }
  }

  async #file(parent: Held, way: readonly string[]): Promise<void> {
    const stats = await lstat(at(parent, way.at(-1)));
    if (!stats.isFile()) return;
    mustAllow(stats, this.#reader, readable);
    this.#isFull = this.files.length === this.#limit;
    if (this.#isFull) this.more = true;
    else this.files.push({ path: way.join('/'), size: stats.size, modifiedAt: moment(stats) });
  }
}

/** Milliseconds, where a file claims to be from before or after what a date can be, the nearest one. */
const moment = ({ mtimeMs }: Stats): number => Math.min(Math.max(Math.floor(mtimeMs), -8.64e15), 8.64e15);
