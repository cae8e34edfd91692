import { constants } from 'node:fs';
import { access, link, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SallyportError } from '../engine/errors.ts';
import { newId } from '../engine/ids.ts';
import { isShortage } from './shortage.ts';
import { within } from './within.ts';

/**
 * The directory in which files are kept. It may be a file system of another machine, and what is there in its place when
 * that is gone is an empty directory: a turn would find no files there, and write its own where nobody looks for them.
 * So the directory has a name, in its file `place`, which all that read and write there have to see first.
 */
export interface KeptPlace {
  /** Rejects with `not_ready` unless the directory that was opened is there. */
  check(): Promise<void>;
  /** False, after a time, also when it does not answer; or when nothing can be written there. Never rejects. */
  works(): Promise<boolean>;
}

/** Asks nobody whether the directory is there: it is on a disk of this machine, or a test's. */
export const anyPlace: Pick<KeptPlace, 'check'> = { check: async () => {} };

/** Makes functions that do their work only where the directory is there. */
export const checkedBy =
  (place: Pick<KeptPlace, 'check'>) =>
  <Asked extends unknown[], T>(work: (...asked: Asked) => Promise<T>) =>
  async (...asked: Asked): Promise<T> => {
    await place.check();
    return await work(...asked);
  };

const nameFile = 'place';
const answerMs = 5_000;

/**
 * Finds out whether a directory is the one that the service has always used, and gives it a name when there has been none.
 * `agreed` gives the name that all nodes know, which is the one that was told first; null as long as none was.
 * @throws one readable line when it is another directory, or when its file system is not mounted
 */
export async function openKeptPlace(
  directory: string,
  agreed: (found: string | null) => Promise<string | null>,
): Promise<KeptPlace> {
  const known = await agreed(null);
  const found = (await nameOf(directory)) ?? (known === null ? await giveName(directory) : null);
  const name = known ?? (await agreed(found));
  if (name === null || found !== name) {
    const file = join(directory, nameFile);
    throw new Error(
      `the files of conversations are not in ${directory}: is its file system mounted, and SALLYPORT_WORKSPACES_DIR the ` +
        `same for all servers? Those of this database are in one whose file ${file} says ${name}`,
    );
  }
  let seen = await identityOf(directory);
  const check = async () => {
    // Needs no file of the system's, of which there may be none left.
    const file = await identityOf(directory);
    if (file !== null && file === seen) return;
    const now = await nameOf(directory).catch((error: unknown) => {
      if (isShortage(error)) throw error; // says nothing of the directory
      throw new SallyportError('not_ready', { cause: error });
    });
    if (now === name) {
      seen = file;
      return;
    }
    throw new SallyportError('not_ready', { cause: new Error(`${directory} is not there: it has the name ${now}`) });
  };
  let asked: Promise<boolean> | null = null;
  const ask = async () => {
    await check();
    await access(directory, constants.W_OK);
    return true;
  };
  return {
    check,
    async works() {
      // One at a time: each may hold one of a few threads for as long as the file system is silent.
      asked ??= ask()
        .catch(() => false)
        .finally(() => (asked = null));
      return await within(answerMs, asked).catch(() => false);
    },
  };
}

async function nameOf(directory: string): Promise<string | null> {
  try {
    return (await readFile(join(directory, nameFile), 'utf8')).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** Tells the file with the name from others; null when there is none, or it cannot be told. */
async function identityOf(directory: string): Promise<string | null> {
  try {
    const { ino, mtimeNs } = await stat(join(directory, nameFile), { bigint: true });
    return `${ino} ${mtimeNs}`;
  } catch {
    return null;
  }
}

/** Of several that do so at once all get the name of one. */
async function giveName(directory: string): Promise<string | null> {
  const name = newId('node');
  const written = join(directory, `${nameFile}.${name}`);
  await writeFile(written, `${name}\n`, { mode: 0o600, flag: 'wx' });
  try {
    await link(written, join(directory, nameFile));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    await rm(written, { force: true });
  }
  return await nameOf(directory);
}
