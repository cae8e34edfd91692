import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import type { TestContext } from 'node:test';
import type { FilesOf } from '../engine/ports.ts';
import { freshDirectory } from './jail-support.ts';
import { createWorkspaceFiles } from './workspace-files.ts';

// What the tests of workspace files share.

/** A project with a directory `outside` beside it, and a place where slots are kept. */
export async function places(t: TestContext) {
  const base = await freshDirectory(t);
  const [project, outside, keptDir] = [join(base, 'project'), join(base, 'outside'), join(base, 'kept')];
  for (const path of [project, outside]) await mkdir(path);
  await writeFile(join(outside, 'secret'), 'outside');
  const files = createWorkspaceFiles({ keptDir });
  const of: FilesOf = { tenant: 'acme', session: 's1', projectPath: project };
  const text = async (path: string, whose = of) => {
    const found = await files.open(whose, path);
    return found && (await buffer(found.content)).toString();
  };
  const paths = async (limit = 1000, whose = of) => {
    const found = await files.list(whose, limit);
    return [found.files.map(({ path }) => path), found.more] as const;
  };
  return { base, project, outside, keptDir, files, of, slot: { ...of, projectPath: null }, text, paths };
}
