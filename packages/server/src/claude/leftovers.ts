import { constants } from 'node:fs';
import { lstat, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { writeFilesBelow } from './slot-files.ts';
import { deleteTree, type User } from './slots.ts';

/** What a config directory needs while its process lives: who it is, its plugins, its sessions. */
const needed: ReadonlySet<string> = new Set(['.claude.json', 'plugins', 'projects', 'sessions']);

/** Deletes what is in a directory, which stays. Never follows a link. Rejects when something is left. */
export async function emptyDirectory(path: string): Promise<void> {
  await deleteAllBut(path, () => false);
  const left = await readdir(path);
  if (left.length > 0) throw new Error(`${left.length} entries of a directory could not be deleted`);
}

/**
 * Deletes what an idle process has written of all sessions but one: transcripts, long results of tools, and what it
 * noted in its own file about the last one. `user` is whose files they are; null: ours. Rejects when it cannot.
 */
export async function forgetSessions(config: string, session: string, user: User | null): Promise<void> {
  await untilWritten(config);
  await deleteAllBut(config, (name) => needed.has(name));
  const projects = join(config, 'projects');
  for (const project of await readdir(projects)) {
    await deleteAllBut(join(projects, project), (name) => name === `${session}.jsonl`);
  }
  const own: unknown = JSON.parse(await readPlain(join(config, '.claude.json')));
  if (typeof own !== 'object' || own === null) throw new Error('the configuration of a process is no object');
  const content = JSON.stringify({ ...own, projects: {} });
  await writeFilesBelow(config, [{ path: '.claude.json', content }], user);
}

/** Longest that Claude Code may take to write its own file, in milliseconds. */
const writingMs = 2_000;

/** Waits until Claude Code is not writing its own file: locks and new versions of it stand beside it meanwhile. */
async function untilWritten(config: string): Promise<void> {
  for (let waited = 0; ; waited += 20) {
    const beside = (await readdir(config)).filter((name) => name.startsWith('.claude.json.'));
    if (beside.length === 0) return;
    if (waited >= writingMs) throw new Error(`a process is writing ${beside.join(', ')}`);
    await delay(20);
  }
}

/** The text of a file that is no link. */
async function readPlain(path: string): Promise<string> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    return await file.readFile('utf8');
  } finally {
    await file.close();
  }
}

async function deleteAllBut(path: string, kept: (name: string) => boolean): Promise<void> {
  if (!(await lstat(path)).isDirectory()) throw new Error('there is something else in the place of a directory');
  for (const name of await readdir(path)) if (!kept(name)) await deleteTree(join(path, name));
}
