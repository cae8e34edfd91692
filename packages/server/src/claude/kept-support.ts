import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { versionsOf } from './kept-files.ts';

/** Where the only files that are kept are. */
export async function keptVersion({ keptDir }: { readonly keptDir: string }): Promise<string> {
  const [name = 'none'] = await readdir(keptDir);
  const [version] = await versionsOf(join(keptDir, name));
  if (version === undefined) throw new Error('no files are kept');
  return version.path;
}
