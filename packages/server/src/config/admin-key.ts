import { open, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { newSecret } from '../engine/ids.ts';

/** The admin key that the service made for itself at its first start. */
export interface AdminKey {
  readonly secret: string;
  /** The file it is kept in, mode 0600, in the data directory. */
  readonly path: string;
  /** True when it was made just now and has to be shown once. */
  readonly fresh: boolean;
}

const prefix = 'sallyport_';

/**
 * Reads the admin key of the data directory, or makes one when there is none. Throws with one readable line when the
 * file can be read by others or does not hold a key.
 */
export const adminKey = (dataDir: string): Promise<AdminKey> => keyIn(join(dataDir, 'admin-key'));

/** The key that secrets are kept under in the database when none is configured. Made and read like the admin key. */
export async function secretKey(dataDir: string): Promise<string> {
  return (await keyIn(join(dataDir, 'secret-key'))).secret;
}

async function keyIn(path: string): Promise<AdminKey> {
  const secret = newSecret(prefix);
  try {
    const file = await open(path, 'wx', 0o600);
    try {
      await file.writeFile(`${secret}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    return { secret, path, fresh: true };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  return { secret: await existing(path), path, fresh: false };
}

async function existing(path: string): Promise<string> {
  const { mode } = await stat(path);
  if ((mode & 0o077) !== 0)
    throw new Error(`${path} can be read by others: run chmod 600 on it, or delete it to get a new key`);
  const secret = (await readFile(path, 'utf8')).trim();
  if (!/^sallyport_[A-Za-z0-9_-]{43}$/u.test(secret))
    throw new Error(`${path} does not hold a key: delete it to get a new one`);
  return secret;
}
