import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { newId } from '../engine/ids.ts';
import { findProgram, findToolbox, nestedSandbox, tryWalls, type Trial } from './isolation.ts';
import { createUsers, prepareRunDirectory } from './slots.ts';

/** One thing that was looked at. */
export interface Check {
  readonly name: string;
  readonly ok: boolean;
  /** What was found. */
  readonly detail: string;
  /** What to do about it; empty when nothing is wrong. */
  readonly remedy: string;
}

const packages = 'On Debian and Ubuntu: apt-get install bubblewrap socat util-linux mount bash.';

/**
 * Looks at everything a jail needs on this machine, in a container too, and says what to do about what is missing.
 * Starts short-lived processes; changes nothing but the run directory, which it makes if it is not there.
 */
export async function checkIsolation(where: { runDir: string; claudeBinary: string }): Promise<Check[]> {
  const checks = [checkPlatform(), await checkClaude(where.claudeBinary), await checkRunDirectory(where.runDir)];
  if (process.platform !== 'linux') return checks;
  checks.push(...(await checkPrograms()), ...checkUserNamespaces());
  const prepared = checks.find(({ name }) => name === runDirectory)?.ok === true;
  return [...checks, ...(await checkTrials(where.runDir, prepared))];
}

const runDirectory = 'run directory';

const good = (name: string, detail: string): Check => ({ name, ok: true, detail, remedy: '' });
const bad = (name: string, detail: string, remedy: string): Check => ({ name, ok: false, detail, remedy });

function checkPlatform(): Check {
  const detail = `${process.platform} ${process.arch}${inContainer() ? ', in a container' : ''}, ${
    process.getuid?.() === 0 ? 'as root: each process gets a user of its own' : 'as an ordinary user'
  }`;
  if (process.platform === 'linux') return good('platform', detail);
  return bad('platform', detail, 'Jails need Linux. Run the service in a Linux container or virtual machine.');
}

const inContainer = (): boolean => existsSync('/.dockerenv') || existsSync('/run/.containerenv');

async function checkClaude(binary: string): Promise<Check> {
  const name = 'Claude Code binary';
  const trial = await run(binary, ['--version']);
  if (trial.ok) return good(name, `${trial.output} (${binary})`);
  return bad(name, `${binary} does not run: ${trial.output}`, 'Install the dependencies again: npm ci.');
}

async function checkRunDirectory(path: string): Promise<Check> {
  try {
    await prepareRunDirectory(path);
    return good(runDirectory, path);
  } catch (error) {
    const why = String(((error as Error).cause as Error | undefined)?.message ?? error);
    return bad(runDirectory, why, 'Remove what is there, or set another, short path that this account may write.');
  }
}

async function checkPrograms(): Promise<Check[]> {
  const root = process.getuid?.() === 0;
  const needed = ['bwrap', 'socat', 'prlimit', 'bash', ...(root ? ['unshare', 'mount', 'setpriv'] : [])];
  return await Promise.all(
    needed.map(async (name) => {
      const path = findProgram(name);
      if (path === null) return bad(name, 'not in the directories of the system', packages);
      const version = name === 'bwrap' ? (await run(path, ['--version'])).output : '';
      return good(name, version === '' ? path : `${version} (${path})`);
    }),
  );
}

/** The switches by which kernels and containers forbid user namespaces. */
function checkUserNamespaces(): Check[] {
  const name = 'user namespaces';
  const switches = [
    {
      file: '/proc/sys/user/max_user_namespaces',
      forbids: (value: string) => value === '0',
      remedy: 'sysctl user.max_user_namespaces=10000',
    },
    {
      file: '/proc/sys/kernel/unprivileged_userns_clone',
      forbids: (value: string) => value === '0',
      remedy: 'sysctl kernel.unprivileged_userns_clone=1',
    },
    {
      file: '/proc/sys/kernel/apparmor_restrict_unprivileged_userns',
      forbids: (value: string) => value === '1',
      remedy:
        'Allow bwrap by an AppArmor profile with "userns," (Ubuntu: package apparmor-profiles, profile bwrap-userns-restrict), or sysctl kernel.apparmor_restrict_unprivileged_userns=0',
    },
  ];
  if (!existsSync('/proc/self/ns/user'))
    return [bad(name, 'this kernel has none', 'Use a kernel with CONFIG_USER_NS.')];
  const forbidding = switches.filter(({ file, forbids }) => forbids(read(file)));
  if (forbidding.length === 0) return [good(name, 'not forbidden by a kernel setting')];
  return forbidding.map(({ file, remedy }) => bad(name, `${file} is ${read(file)}`, remedy));
}

async function checkTrials(runDir: string, prepared: boolean): Promise<Check[]> {
  const [jail, sandbox] = ['trial start of a jail', 'trial start of the sandbox for Bash'];
  const users = prepared ? createUsers(runDir) : null;
  const found = prepared ? await findToolbox(users) : { tools: null, problems: ['there is no run directory.'] };
  if (found.tools === null) {
    const remedy = 'Repair what is missing above first.';
    return [jail, sandbox].map((name) => bad(name, `not tried: ${found.problems.join(' ')}`, remedy));
  }
  const where = { tools: found.tools, users, runDir };
  const trial = (command: readonly string[]) => tryWalls({ ...where, id: newId('proc').slice(0, 17) }, command);
  const first = await trial(['true']);
  if (!first.ok) return [failed(jail, first), bad(sandbox, 'not tried', 'Repair the jail first.')];
  const second = await trial(nestedSandbox);
  return [good(jail, 'works'), second.ok ? good(sandbox, 'works') : failed(sandbox, second)];
}

/** What a failed start usually means, by the words of the program that failed. */
function failed(name: string, { detail }: Trial): Check {
  return bad(name, detail, remedyFor(detail, inContainer()));
}

/** What to do about the words with which a jail did not start. */
export function remedyFor(words: string, container: boolean): string {
  if (/source path|No such file|mount point/i.test(words)) {
    return 'A directory cannot be reached by the user of the jail: put the run directory below one that all may pass, as /tmp.';
  }
  if (/proc/i.test(words)) {
    return container
      ? 'The container hides parts of /proc, so no new one may be mounted: start it with --security-opt systempaths=unconfined (Kubernetes: procMount: Unmasked).'
      : 'A new /proc may not be mounted: look for mounts over parts of /proc.';
  }
  if (/namespace|clone|unshare|operation not permitted|uid map|setting up/i.test(words)) {
    return container
      ? 'The container forbids namespaces: start it with --security-opt seccomp=unconfined or a profile that allows clone, unshare, mount and pivot_root, and with --security-opt apparmor=unconfined where AppArmor is in use.'
      : 'The kernel forbids namespaces to this account: see the checks above, and any seccomp or systemd restriction (RestrictNamespaces, PrivateUsers) of the service.';
  }
  return 'See the words of the program.';
}

function read(file: string): string {
  try {
    return readFileSync(file, 'latin1').trim();
  } catch {
    return '';
  }
}

async function run(file: string, args: string[]): Promise<{ ok: boolean; output: string }> {
  try {
    const { stdout } = await promisify(execFile)(file, args, { env: { HOME: '/nonexistent' }, timeout: 20_000 });
    return { ok: true, output: stdout.trim().split('\n')[0] ?? '' };
  } catch (error) {
    return { ok: false, output: (error as Error).message.split('\n')[0] ?? '' };
  }
}
