import { execFile } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { inside, limitArgs, systemBinds, wallsCommand, type Toolbox, type Walls } from './bwrap.ts';
import { deleteTree, layout, makePlace, type Users } from './slots.ts';

export type IsolationSetting = 'auto' | 'bwrap' | 'none';

/** What keeps Claude Code apart from this machine. */
export interface Isolation {
  readonly setting: IsolationSetting;
  readonly jailed: boolean;
  /** Why there is no jail, one sentence each; empty with a jail and where none was wanted. */
  readonly problems: readonly string[];
}

/** What a trial start said. */
export interface Trial {
  readonly ok: boolean;
  /** The last words of the program that failed. */
  readonly detail: string;
}

const trialMilliseconds = 20_000;

/** What Claude Code does to run Bash in a sandbox of its own, inside our walls. */
export const nestedSandbox: readonly string[] =
  'bwrap --new-session --die-with-parent --unshare-net --unshare-pid --ro-bind / / --dev /dev --proc /proc -- true'.split(
    ' ',
  );

/** Full path of a program in the system's directories, the only ones a jail sees; null when it is not there. */
export function findProgram(name: string): string | null {
  for (const directory of inside.path.split(':')) {
    try {
      const path = join(directory, name);
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // not here
    }
  }
  return null;
}

/** The programs that walls need, or what is missing of them. */
export async function findToolbox(
  users: Users | null,
): Promise<{ tools: Toolbox; problems: [] } | { tools: null; problems: string[] }> {
  if (process.platform !== 'linux')
    return { tools: null, problems: [`There is no bubblewrap for ${process.platform}.`] };
  const missing = new Map<string, string>();
  const find = (name: string, from: string): string => {
    const path = findProgram(name);
    if (path === null) missing.set(name, from);
    return path ?? '';
  };
  const bwrap = find('bwrap', 'bubblewrap');
  find('socat', 'socat');
  const prlimit = find('prlimit', 'util-linux');
  const switching = users && {
    unshare: find('unshare', 'util-linux'),
    mount: find('mount', 'mount'),
    setpriv: find('setpriv', 'util-linux'),
  };
  if (missing.size > 0) {
    return { tools: null, problems: [...missing].map(([name, from]) => `${name} is not installed (package ${from}).`) };
  }
  const help = await promisify(execFile)(bwrap, ['--help'], { env: {} }).catch(() => ({ stdout: '' }));
  const limits = limitArgs(readFileSync('/proc/self/limits', 'latin1'));
  return { tools: { bwrap, prlimit, switching, limits, sizes: help.stdout.includes('--size') }, problems: [] };
}

/** Starts a command in the very walls of a slot, as the user of one, and says how it went. */
export async function tryWalls(
  where: { tools: Toolbox; users: Users | null; runDir: string; id: string },
  command: readonly string[],
): Promise<Trial> {
  const { tools, users, runDir, id } = where;
  const user = users?.take() ?? null;
  const place = await makePlace(runDir, id, user);
  const walls: Walls = {
    tools,
    user,
    binds: [...systemBinds(), { from: place.slot, to: inside.workspace, write: true }],
    hidden: [],
    stageDir: layout(runDir).stage,
    cwd: inside.workspace,
    identity: null,
  };
  try {
    const { file, args } = wallsCommand(walls, command);
    const options = {
      env: { PATH: inside.path },
      cwd: '/',
      timeout: trialMilliseconds,
      killSignal: 'SIGKILL',
    } as const;
    await promisify(execFile)(file, args, options);
    return { ok: true, detail: '' };
  } catch (error) {
    const { stderr = '', message } = error as Error & { stderr?: string };
    return { ok: false, detail: (stderr.trim() || message).split('\n').at(-1)!.slice(0, 300) };
  } finally {
    if (user) users?.free(user);
    await deleteTree(place.directory);
  }
}

/** Whether processes can be jailed here, found out by trying: the walls first, then Claude Code's sandbox inside them. */
export async function probeWalls(where: {
  users: Users | null;
  runDir: string;
  id: string;
}): Promise<{ tools: Toolbox; problems: [] } | { tools: null; problems: string[] }> {
  const found = await findToolbox(where.users);
  if (found.tools === null) return found;
  const trial = await tryWalls({ ...where, tools: found.tools }, nestedSandbox);
  if (trial.ok) return found;
  const walls = await tryWalls({ ...where, tools: found.tools }, ['true']);
  const problem = walls.ok
    ? `A sandbox inside the jail cannot be started: ${trial.detail}`
    : `A jail cannot be started: ${walls.detail}`;
  return { tools: null, problems: [problem.replace(/\.?$/, '.')] };
}
