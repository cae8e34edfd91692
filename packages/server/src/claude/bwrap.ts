import { existsSync, lstatSync, mkdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { isInside, type User } from './slots.ts';

/** The programs that make walls. */
export interface Toolbox {
  readonly bwrap: string;
  readonly prlimit: string;
  /** What it takes to switch users; null where the server cannot. */
  readonly switching: { readonly unshare: string; readonly mount: string; readonly setpriv: string } | null;
  /** True when this bwrap can bound a tmpfs. */
  readonly sizes: boolean;
  /** Arguments of prlimit. */
  readonly limits: readonly string[];
}

/** A part of this host that is seen inside. */
export interface Bind {
  readonly from: string;
  readonly to: string;
  readonly write?: boolean;
  /** True for a file; else it is a directory. */
  readonly file?: boolean;
  /** True where the user of the jail may not be able to pass the parents of `from`. */
  readonly closed?: boolean;
}

/** The walls around one process. */
export interface Walls {
  readonly tools: Toolbox;
  /** Null: the server cannot switch users and the process runs as ourselves. */
  readonly user: User | null;
  /** Mounted in this order. */
  readonly binds: readonly Bind[];
  /** Directories that are empty inside wherever a bind holds them. */
  readonly hidden: readonly string[];
  /** A directory of ours for mount points of the outer stage. */
  readonly stageDir: string;
  /** Working directory inside. */
  readonly cwd: string;
  /** `device:inode` the working directory must have inside; null: not checked. */
  readonly identity: string | null;
}

/** Where the walls put what is ours. */
export const inside = {
  workspace: '/workspace',
  broker: '/.sallyport/broker',
  claude: '/.sallyport/claude',
  temporary: '/tmp',
  home: '/tmp/home',
  path: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
} as const;

/**
 * Bounds for one jail, with the words of /proc/self/limits. `nproc` counts processes and threads of the jail alone, as
 * it is set inside its own user namespace. Claude Code reserves 5.6 GB of data when it starts, so `data` only stops
 * what runs away.
 */
const limits = [
  { name: 'nproc', words: 'Max processes', value: 512 },
  { name: 'nofile', words: 'Max open files', value: 8192 },
  { name: 'fsize', words: 'Max file size', value: 4 * 1024 ** 3 },
  { name: 'data', words: 'Max data size', value: 12 * 1024 ** 3 },
] as const;
const temporaryBytes = 1024 ** 3;
const sharedMemoryBytes = 64 * 1024 ** 2;
const maskBytes = 64 * 1024;

const namespaces = ['user', 'pid', 'ipc', 'uts', 'net', 'cgroup-try'].map((name) => `--unshare-${name}`);
const topLevel = ['bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32'];
const etc = ['ssl', 'pki', 'ca-certificates', 'crypto-policies', 'alternatives', 'ld.so.cache', 'localtime'];
/** Where people keep sources and programs of their own below /usr; nothing there is needed to run the system's. */
const notSystem = ['/usr/src', '/usr/local/src'];

/** The arguments of prlimit: our bounds, or this process's own hard limits (text of /proc/self/limits) where those are lower. */
export function limitArgs(ownLimits: string): string[] {
  const bounds = limits.map(({ name, words, value }) => {
    const line = ownLimits.split('\n').find((each) => each.startsWith(words)) ?? '';
    const hard = Number(line.slice(words.length).trim().split(/\s+/)[1]);
    return `--${name}=${Number.isFinite(hard) ? Math.min(hard, value) : value}`;
  });
  return [...bounds, '--core=0'];
}

/** The read-only system of this host: programs and libraries, and the few files of /etc they need. */
export function systemBinds(): Bind[] {
  const plain = ['usr', ...topLevel].filter((name) => lstatSync(`/${name}`, { throwIfNoEntry: false })?.isDirectory());
  const files = etc.filter((name) => existsSync(`/etc/${name}`));
  return [...plain.map((name) => `/${name}`), ...files.map((name) => `/etc/${name}`)].map((path) => ({
    from: path,
    to: path,
  }));
}

/**
 * The command line that runs `command` inside the walls. Where the user is switched there is a stage before bwrap: as
 * root, in a mount namespace of its own, it mounts below `stageDir` what the user could not reach, then gives up
 * everything. bwrap as root would leave a jail in which Claude Code cannot make its own sandbox. The stage replaces
 * itself by bwrap: a root process left in between, having given up its capabilities, could not pass on the death of
 * the server to the user's process. Makes the mount points of the stage if they are not there.
 */
export function wallsCommand(walls: Walls, command: readonly string[]): { file: string; args: string[] } {
  const { tools, user } = walls;
  const guarded = [...identityGuard(walls.identity), tools.prlimit, ...tools.limits, '--', ...command];
  if (user === null) return { file: tools.bwrap, args: [...innerArgs(walls, new Map()), '--', ...guarded] };
  if (tools.switching === null) throw new Error('the tools to switch users are missing');
  const { unshare, mount, setpriv } = tools.switching;
  const staged = new Map<Bind, string>();
  const steps: string[] = [];
  for (const [index, bind] of walls.binds.entries()) {
    if (!bind.closed && hiddenBelow(walls, bind).length === 0) continue;
    const path = join(walls.stageDir, `${bind.file ? 'file' : 'directory'}-${index}`);
    makeMountPoint(path, bind.file === true);
    staged.set(bind, path);
    steps.push('bind', bind.from, path);
    for (const { empty, points } of masksOf(walls, bind, path)) {
      steps.push('empty', String(maskBytes), empty, ...points.flatMap((point) => ['point', point, '-']));
    }
  }
  const become = ['--reuid', String(user.uid), '--regid', String(user.gid), '--clear-groups'];
  const giveUp = ['--no-new-privs', '--inh-caps=-all', '--bounding-set=-all', '--pdeathsig', 'KILL'];
  const inner = [tools.bwrap, ...innerArgs(walls, staged), '--', ...guarded];
  const stage = [
    '/bin/sh',
    '-c',
    stageScript,
    'sh',
    mount,
    ...steps,
    '--',
    setpriv,
    ...become,
    ...giveUp,
    '--',
    ...inner,
  ];
  return { file: unshare, args: ['--mount', '--propagation', 'slave', '--', ...stage] };
}

/** Takes the mount program, steps of three words, `--`, and the command to become. */
const stageScript = `mount=$1; shift
while [ "$1" != -- ]; do
  case $1 in
    bind) "$mount" --rbind "$2" "$3" || exit 98 ;;
    empty) "$mount" -t tmpfs -o "size=$2,mode=0755,nosuid,nodev" tmpfs "$3" || exit 98 ;;
    point) mkdir -p -m 0755 "$2" || exit 98 ;;
    *) exit 98 ;;
  esac
  shift 3
done
shift
exec "$@"`;

/** Mounts on it are seen by the process that makes them alone, so all jails share it. */
function makeMountPoint(path: string, file: boolean): void {
  if (existsSync(path)) return;
  if (file) writeFileSync(path, '', { mode: 0o644 });
  else mkdirSync(path, { mode: 0o755 });
}

function innerArgs(walls: Walls, staged: ReadonlyMap<Bind, string>): string[] {
  const args = ['--die-with-parent', '--new-session', ...namespaces, '--hostname', 'workspace', ...systemLinks()];
  args.push('--proc', '/proc', '--dev', '/dev', ...tmpfs(walls.tools, '/dev/shm', sharedMemoryBytes));
  args.push(...tmpfs(walls.tools, inside.temporary, temporaryBytes), '--dir', inside.home);
  const made = new Set<string>([inside.temporary]);
  for (const bind of walls.binds) {
    // Inside another bind the parents are the host's own and there already.
    const others = walls.binds.filter((other) => other !== bind && !other.file).map((other) => other.to);
    const missing = parents(bind.to).filter((path) => !isInside(path, others) && !made.has(path));
    for (const path of missing) made.add(path);
    const stage = staged.get(bind);
    args.push(...directories(missing), bind.write ? '--bind' : '--ro-bind', stage ?? bind.from, bind.to);
    if (stage !== undefined) continue;
    for (const { empty, points } of masksOf(walls, bind, bind.to)) {
      args.push(...tmpfs(walls.tools, empty, maskBytes), ...directories(points));
    }
  }
  return [...args, '--remount-ro', '/dev', '--remount-ro', '/', '--chdir', walls.cwd];
}

function systemLinks(): string[] {
  return topLevel.flatMap((name) => {
    const link = lstatSync(`/${name}`, { throwIfNoEntry: false })?.isSymbolicLink();
    return link ? ['--symlink', readlinkSync(`/${name}`), `/${name}`] : [];
  });
}

/** What must be made empty below a mount, with the mount points for the binds that go back in there. */
function masksOf(walls: Walls, bind: Bind, mounted: string): { empty: string; points: string[] }[] {
  const at = (path: string) => join(mounted, relative(bind.from, path));
  return hiddenBelow(walls, bind).map((hidden) => {
    const back = walls.binds.filter((other) => other !== bind && !other.file && isInside(other.to, [hidden]));
    const points = back.flatMap((other) => [...parents(other.to), other.to]);
    return { empty: at(hidden), points: points.filter((path) => path !== hidden && isInside(path, [hidden])).map(at) };
  });
}

function hiddenBelow(walls: Walls, bind: Bind): string[] {
  const wanted = bind.from === '/usr' ? [...walls.hidden, ...notSystem] : walls.hidden;
  const below = wanted.filter((path) => path !== bind.from && isInside(path, [bind.from]) && existsSync(path));
  // What is inside a hidden one is not there any more.
  return below.filter((path) => !below.some((other) => other !== path && isInside(path, [other])));
}

const tmpfs = (tools: Toolbox, path: string, bytes: number): string[] => [
  ...(tools.sizes ? ['--size', String(bytes)] : []),
  '--tmpfs',
  path,
];

/** Without a mode bwrap makes parents that only their owner may pass. */
const directories = (paths: readonly string[]): string[] => paths.flatMap((path) => ['--perms', '0755', '--dir', path]);

/** The parents of a path, the outermost first, without the root. */
function parents(path: string): string[] {
  const parent = dirname(path);
  return parent === '/' ? [] : [...parents(parent), parent];
}

/** Refuses to go on when the directory that was mounted is not the one that was judged. */
function identityGuard(identity: string | null): string[] {
  if (identity === null) return [];
  return ['/bin/sh', '-c', '[ "$(stat -c %d:%i .)" = "$1" ] || exit 99; shift; exec "$@"', 'sh', identity];
}
