import type { ChildProcess } from 'node:child_process';
import { SallyportError } from '../engine/errors.ts';
import { newId } from '../engine/ids.ts';
import type { Toolbox } from './bwrap.ts';
import { probeWalls, type Isolation } from './isolation.ts';
import type { Jails, JailsOptions } from './jail-types.ts';
import { createKeptFiles } from './kept-files.ts';
import { LitterBook } from './litter.ts';
import { LiveJail } from './live-jail.ts';
import { planJail, type Planner } from './plan.ts';
import { reachableBinary } from './binary.ts';
import { reap, startWatchdog } from './reaper.ts';
import { identify } from './registry.ts';
import { createUsers, type Users } from './slots.ts';

export type { Jail, JailProfile, Jails, JailsOptions } from './jail-types.ts';

/**
 * Ends and deletes what an earlier server left in the run directory, finds out whether processes can be jailed, and
 * makes jails. Rejects with `isolation_unavailable` when `bwrap` is demanded and does not work.
 */
export async function createJails(options: JailsOptions): Promise<Jails> {
  const { runDir, log, clock } = options;
  const owner = identify(process.pid);
  if (owner === null)
    throw new SallyportError('not_ready', { cause: new Error('cannot tell when this process started') });
  const left = await reap(runDir);
  if (left.removed.length > 0) log.warn({ jails: left.removed }, 'removed what an earlier server left behind');
  if (left.stuck.length > 0) log.error({ jails: left.stuck }, 'could not remove what an earlier server left behind');

  const users = createUsers(runDir);
  const { isolation, tools } = await isolate(options, users);
  const binary = tools === null ? await reachableBinary(options.claudeBinary, runDir, users) : options.claudeBinary;
  const keptFiles = createKeptFiles(options.keptDir, options.keptPlace);
  const planner: Planner = {
    ...options,
    claudeBinary: binary,
    users,
    tools,
    owner,
    keptFiles,
    litterBook: new LitterBook(),
  };
  const open = new Map<string, { jail: LiveJail; startedAt: number }>();
  let watchdog: ChildProcess | null = null;

  return {
    isolation,
    async open(profile) {
      const id = newId('proc').slice(0, 17);
      const startedAt = clock.now();
      const starting = () => {
        // Where there are no walls, nothing but the watchdog ends the processes of a server that is killed.
        if (tools === null && (watchdog === null || watchdog.exitCode !== null || watchdog.signalCode !== null)) {
          watchdog = startWatchdog(runDir, owner);
          watchdog.once('error', (error) => log.error({ err: error }, 'the watchdog cannot be started'));
        }
      };
      const jail = new LiveJail(
        await planJail(planner, id, profile, { starting, removed: () => void open.delete(id) }),
      );
      open.set(id, { jail, startedAt });
      return jail;
    },
    forget: (keptName) => keptFiles.forget(keptName),
    copyKept: (from, to) => keptFiles.copy(from, to),
    isKeptWhole: (keptName) => keptFiles.isWhole(keptName),
    giveUpKept: (keptName) => keptFiles.giveUp(keptName),
    live: () =>
      [...open].flatMap(([id, { jail, startedAt }]) => {
        const { pid } = jail;
        return pid === null ? [] : [{ id, pid, startedAt, memoryBytes: jail.memoryBytes() }];
      }),
    async close() {
      await Promise.all([...open.values()].map(({ jail }) => jail.remove()));
      watchdog?.stdin?.end();
    },
  };
}

async function isolate(
  { setting, runDir, log }: JailsOptions,
  users: Users | null,
): Promise<{ isolation: Isolation; tools: Toolbox | null }> {
  if (setting === 'none') return { isolation: { setting, jailed: false, problems: [] }, tools: null };
  const { tools, problems } = await probeWalls({ users, runDir, id: newId('proc').slice(0, 17) });
  if (tools === null && setting === 'bwrap') {
    throw new SallyportError('isolation_unavailable', {
      cause: new Error(`no jail can be made here: ${problems.join(' ')}`),
    });
  }
  if (tools === null) log.warn({ problems }, 'Claude Code cannot be jailed here');
  return { isolation: { setting, jailed: tools !== null, problems }, tools };
}
