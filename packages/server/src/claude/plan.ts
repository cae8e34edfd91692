import { lstat, realpath } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { SandboxSettings } from '@anthropic-ai/claude-agent-sdk';
import { SallyportError } from '../engine/errors.ts';
import { inside, systemBinds, type Bind, type Toolbox, type Walls } from './bwrap.ts';
import type { JailProfile, JailsOptions } from './jail-types.ts';
import type { KeptFiles } from './kept-files.ts';
import type { LitterBook } from './litter.ts';
import type { JailPlan } from './live-jail.ts';
import { record } from './reaper.ts';
import { marker, type ProcessId } from './registry.ts';
import { beforeRun, isShortage } from './shortage.ts';
import { deleteTree, isProtected, layout, makePlace, mayUse, type Place, type User, type Users } from './slots.ts';

/** What all jails of a server have in common. */
export interface Planner extends JailsOptions {
  /** Null: processes run as ourselves. */
  readonly users: Users | null;
  /** Null: no walls. */
  readonly tools: Toolbox | null;
  readonly owner: ProcessId;
  readonly litterBook: LitterBook;
  readonly keptFiles: KeptFiles;
}

/** A project as it was judged. */
interface Project {
  readonly path: string;
  /** `device:inode`. */
  readonly identity: string;
  readonly owner: User;
}

/**
 * Makes the place of one process and all that is fixed about it. Rejects with `path_not_allowed` when the project is
 * the service's own or not a real path, with `workspace_not_accessible` when the process's user may not use it, and with
 * `overloaded` when the system gives no more files.
 */
export async function planJail(
  planner: Planner,
  id: string,
  profile: JailProfile,
  told: Pick<JailPlan, 'starting' | 'removed'>,
): Promise<JailPlan> {
  const { runDir, tools, users, owner, log, claudeBinary, keptFiles, litterBook } = planner;
  const { kept = null } = profile;
  const project = profile.projectPath === null ? null : await judge(planner, profile.projectPath);
  const ownUser = users !== null && (project === null || project.owner.uid === 0);
  const user = users === null ? null : project === null || ownUser ? users.take() : project.owner;
  const giveBack = () => {
    if (ownUser && user) users.free(user);
  };
  try {
    if (project) await mustBeUsable(project.path, user, { access: profile.access, parents: tools === null });
    const place = await makePlace(runDir, id, user);
    record(place.directory, { id, uid: ownUser && user ? user.uid : null, leader: null, owner });
    const restored = project === null ? kept : null;
    if (restored) await keptFiles.restore(restored, place.slot, user);
    // Only a sandbox inside our walls makes mount points, and only where it may write.
    const littered = tools !== null && profile.bash && profile.access === 'rw';
    const workspace = project?.path ?? place.slot;
    return {
      id,
      place,
      litter: littered ? litterBook.enter(workspace, user) : null,
      sweep: async () => {
        if (littered) await litterBook.leave(workspace);
      },
      projectPath: project?.path ?? null,
      user,
      ownUser,
      walls: tools && walls(planner, tools, { place, user, project, profile }),
      root: project?.path ?? (tools ? inside.workspace : place.slot),
      env: environment(planner, id, place),
      claudeExecutable: tools ? inside.claude : claudeBinary,
      sandbox: tools && profile.bash ? bashSandbox : undefined,
      fixed: tools !== null && profile.access === 'ro',
      keptDir: planner.keptDir,
      kept: profile.keeps === false ? null : restored,
      keep: (as) => keptFiles.keep(as, place.slot),
      begin: (as) => keptFiles.begin(as),
      isPlaceSame: async () => project === null || (await isSame(project)),
      owner,
      log,
      starting: told.starting,
      removed() {
        giveBack();
        told.removed();
      },
    };
  } catch (error) {
    // In a shortage it takes until the system gives files again. The user is nobody else's before that.
    const deleted = deleteTree(`${layout(runDir).jails}/${id}`).then(giveBack);
    deleted.catch((failure: unknown) => log.error({ jail: id, err: failure }, 'a jail could not be removed'));
    if (!isShortage(error)) await deleted.catch(() => {});
    throw beforeRun(error);
  }
}

async function judge({ hidden, runDir }: Planner, path: string): Promise<Project> {
  const refuse = (why: string) => new SallyportError('path_not_allowed', { cause: new Error(`${path}: ${why}`) });
  const real = await realpath(path).catch((error: unknown) => {
    throw new SallyportError('workspace_not_accessible', { cause: error });
  });
  if (real !== path) throw refuse('it is not a real path any more');
  if (isProtected(path, [...hidden, runDir])) throw refuse('it is a directory of the service or of the system');
  const { dev, ino, uid, gid } = await lstat(path, { bigint: true });
  // A directory of a user in root's group is no reason to give its processes that group.
  const owner = { uid: Number(uid), gid: Number(gid === 0n ? uid : gid) };
  return { path, identity: `${dev}:${ino}`, owner };
}

/** True when the path still names the directory that was judged. */
async function isSame({ path, identity }: Project): Promise<boolean> {
  const found = await lstat(path, { bigint: true }).catch(() => null);
  return found !== null && `${found.dev}:${found.ino}` === identity;
}

async function mustBeUsable(path: string, user: User | null, how: { access: 'ro' | 'rw'; parents: boolean }) {
  if (await mayUse(user, path, how)) return;
  const who = user ? `uid ${user.uid}` : 'this account';
  const cause = new Error(`${who} may not use ${path} (${how.access})`);
  throw new SallyportError('workspace_not_accessible', { cause });
}

function walls(
  { runDir, hidden, brokerSocket, claudeBinary }: Planner,
  tools: Toolbox,
  { place, user, project, profile }: { place: Place; user: User | null; project: Project | null; profile: JailProfile },
): Walls {
  const write = profile.access === 'rw';
  const workspace: Bind = project
    ? { from: project.path, to: project.path, write, closed: true }
    : { from: place.slot, to: inside.workspace, write };
  return {
    tools,
    user,
    binds: [
      ...systemBinds(),
      { from: place.passwd, to: '/etc/passwd', file: true },
      { from: place.group, to: '/etc/group', file: true },
      workspace,
      { from: place.config, to: place.config, write: true },
      { from: dirname(brokerSocket), to: inside.broker },
      { from: claudeBinary, to: inside.claude, file: true, closed: true },
    ],
    hidden: [...hidden, runDir],
    stageDir: layout(runDir).stage,
    cwd: workspace.to,
    identity: project?.identity ?? null,
  };
}

/** Keeps git from running what a repository's own configuration names. */
const gitSettings = [
  ['core.fsmonitor', 'false'],
  ['core.hooksPath', '/dev/null'],
  ['protocol.ext.allow', 'never'],
] as const;

function environment({ tools, path, brokerSocket }: Planner, id: string, place: Place): Record<string, string> {
  const socket = tools ? brokerSocket.replace(dirname(brokerSocket), inside.broker) : brokerSocket;
  return {
    PATH: tools ? inside.path : (path ?? inside.path),
    HOME: tools ? inside.home : place.home,
    TMPDIR: tools ? inside.temporary : place.temporary,
    LANG: 'C.UTF-8',
    CLAUDE_CONFIG_DIR: place.config,
    ANTHROPIC_BASE_URL: 'http://localhost',
    ANTHROPIC_UNIX_SOCKET: socket,
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_TERMINAL_PROMPT: '0',
    GIT_CONFIG_COUNT: String(gitSettings.length),
    ...Object.fromEntries(
      gitSettings.flatMap(([key, value], index) => [
        [`GIT_CONFIG_KEY_${index}`, key],
        [`GIT_CONFIG_VALUE_${index}`, value],
      ]),
    ),
    [marker]: id,
  };
}

/**
 * The CLI's sandbox around Bash, inside our walls: no sockets, so neither the broker nor anything else can be reached,
 * and none of the CLI's secrets. It widens no permission. `CLAUDE_CODE_SUBPROCESS_ENV_SCRUB` would hide the secrets as
 * well, but leaves empty files (package.json, .env and others) in the workspace.
 */
const bashSandbox: SandboxSettings = {
  enabled: true,
  failIfUnavailable: true,
  autoAllowBashIfSandboxed: false,
  allowUnsandboxedCommands: false,
  network: { allowedDomains: [], allowLocalBinding: false },
  credentials: {
    envVars: ['ANTHROPIC_API_KEY', 'ANTHROPIC_AUTH_TOKEN', 'CLAUDE_CODE_MESSAGING_TOKEN'].map((name) => ({
      name,
      mode: 'deny',
    })),
  },
};
