import { rmSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startChild, type Child, type ChildOptions } from './child.ts';
import { naivePeer, ourPeer, type Peer } from './peers.ts';

/** What of a stage is not as it is by default. */
export interface StageOptions {
  /** Settings of the service over those that all benchmarks share. */
  readonly settings?: Readonly<Record<string, string>>;
  /** The program that stands for the upstream. Default: the one that answers with the words of a prompt. */
  readonly upstream?: 'bench/upstream.ts' | 'bench/reciter.ts';
}

/** The service in a process of its own. */
export interface Service {
  readonly url: string;
  readonly pid: number;
  readonly peer: Peer;
  readonly jailed: boolean;
  /** Its database. */
  readonly dataDir: string;
  close(): Promise<void>;
}

/** Both sides as they run, each in a process of its own, with one simulated upstream for both. */
export interface Stage {
  readonly naive: Peer;
  readonly sallyport: Peer;
  /** Where the service answers, and its keys, each with its own limits. */
  readonly service: {
    readonly url: string;
    readonly pid: number;
    readonly keys: readonly string[];
    /** The key of its admin. */
    readonly admin: string;
    /** Its database and the directory that projects are in. */
    readonly dataDir: string;
    readonly projects: string;
  };
  /** Where the model answers, and what it asks for. */
  readonly upstream: { readonly url: string; readonly pid: number; readonly key: string };
  /** A directory of the stage, and the settings of whatever runs Claude Code without the service. */
  readonly base: string;
  readonly bare: Readonly<Record<string, string>>;
  /** False where this machine has no jail. */
  readonly jailed: boolean;
  /** Starts a further program, which ends with the stage at the latest. */
  start(name: string, file: string, options: Pick<ChildOptions, 'args' | 'env'>): Promise<Child>;
  /** Starts the service once more, with these settings over its own. One of the same name has the data of the one before. */
  startService(name: string, settings: Readonly<Record<string, string>>): Promise<Service>;
  /** What a row needs besides: made at the first use, and given again from then on. */
  once<T>(name: string, make: () => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

const keys = [1, 2, 3, 4, 5].map((number) => `bench-user-key-${number}-0123456789abcdef`);
const adminKey = 'bench-admin-key-0123456789abcdef00';
const model = 'sallyport-simulator';
const upstreamKey = 'sk-ant-bench-0123456789abcdef';
const highLimit = '100000';

/** The service as it is by default, but for its limits: they are there, and higher than what is asked. */
const serviceSettings = (base: string, name: string, upstream: string) => ({
  SALLYPORT_PORT: '0',
  SALLYPORT_DATA_DIR: join(base, `${name}-data`),
  SALLYPORT_RUN_DIR: join(base, `${name}-run`),
  SALLYPORT_WORKSPACE_ROOTS: join(base, 'projects'),
  SALLYPORT_MODELS: model,
  SALLYPORT_DEFAULT_MODEL: model,
  SALLYPORT_REQUESTS_PER_MINUTE: highLimit,
  SALLYPORT_REQUESTS_PER_HOUR: highLimit,
  SALLYPORT_BURST_SIZE: highLimit,
  SALLYPORT_MAX_OPEN_PER_KEY: highLimit,
  ANTHROPIC_BASE_URL: upstream,
  ANTHROPIC_API_KEY: upstreamKey,
  CLAUDE_API_MASTER_KEY: adminKey,
  ...Object.fromEntries(keys.map((key, index) => [`CLAUDE_API_KEY_${index + 1}`, key])),
});

/** All that the naive peer and its Claude Code get to know of this machine, besides PATH. */
const naiveSettings = (base: string, upstream: string) => ({
  HOME: join(base, 'home'),
  CLAUDE_CONFIG_DIR: join(base, 'home', 'config'),
  ANTHROPIC_BASE_URL: upstream,
  ANTHROPIC_API_KEY: upstreamKey,
  CLAUDE_CODE_MAX_RETRIES: '1',
  CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
  CLAUDE_CODE_DISABLE_AUTO_MEMORY: '1',
  DISABLE_TELEMETRY: '1',
  DISABLE_ERROR_REPORTING: '1',
  DISABLE_AUTOUPDATER: '1',
});

/** Starts everything anew. When a part cannot start, it rejects, and nothing is left. */
export async function openStage({ settings = {}, upstream: program }: StageOptions = {}): Promise<Stage> {
  const base = await realpath(await mkdtemp(join(tmpdir(), 'sp-bench-')));
  await chmod(base, 0o755); // The jail's user has to be able to enter it where no jail is used.
  const children: Child[] = [];
  // For when everything is given up at once.
  const remove = () => rmSync(base, { recursive: true, force: true, maxRetries: 3 });
  process.once('exit', remove);
  const start = async (name: string, file: string, options: Pick<ChildOptions, 'args' | 'env'>) => {
    const child = await startChild({
      file,
      cwd: join(base, 'projects'),
      logFile: join(base, `${name}.log`),
      ...options,
    });
    children.push(child);
    return child;
  };
  const close = async () => {
    for (const child of children.splice(0).toReversed()) await child.close();
    process.off('exit', remove);
    await rm(base, { recursive: true, force: true });
  };
  try {
    for (const name of ['projects', 'home']) await mkdir(join(base, name));
    const upstream = await start('upstream', program ?? 'bench/upstream.ts', { env: {} });
    const bare = naiveSettings(base, upstream.url);
    const naive = await start('naive', 'bench/naive/main.ts', { env: bare });
    const startService = async (name: string, more: Readonly<Record<string, string>>): Promise<Service> => {
      const env = { ...serviceSettings(base, name, upstream.url), ...settings, ...more };
      const ours = await start(name, 'packages/server/src/main.ts', { args: ['serve'], env });
      const jailed = !ours.banner.includes('WITHOUT A JAIL');
      const dataDir = env.SALLYPORT_DATA_DIR;
      return {
        url: ours.url,
        pid: ours.pid,
        peer: ourPeer(ours.url, keys[0] ?? ''),
        jailed,
        dataDir,
        close: ours.close,
      };
    };
    const ours = await startService('sallyport', {});
    const made = new Map<string, Promise<any>>();
    return {
      naive: naivePeer(naive.url),
      sallyport: ours.peer,
      service: { ...ours, keys, admin: adminKey, projects: join(base, 'projects') },
      upstream: { url: upstream.url, pid: upstream.pid, key: upstreamKey },
      base,
      bare,
      jailed: ours.jailed,
      start,
      startService,
      once(name, make) {
        if (!made.has(name)) made.set(name, make());
        return made.get(name)!;
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}
