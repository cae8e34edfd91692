import { rmSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startChild, type Child, type ChildOptions } from './child.ts';
import { naivePeer, ourPeer, type Peer } from './peers.ts';

/** Both sides as they run, each in a process of its own, with one simulated upstream for both. */
export interface Stage {
  readonly naive: Peer;
  readonly sallyport: Peer;
  /** Where the service answers, and its keys, each with its own limits. */
  readonly service: { readonly url: string; readonly keys: readonly string[] };
  /** False where this machine has no jail. */
  readonly jailed: boolean;
  close(): Promise<void>;
}

const keys = [1, 2, 3, 4, 5].map((number) => `bench-user-key-${number}-0123456789abcdef`);
const model = 'sallyport-simulator';
const upstreamKey = 'sk-ant-bench-0123456789abcdef';
const highLimit = '100000';

/** The service as it is by default, but for its limits: they are there, and higher than what is asked. */
const serviceSettings = (base: string, upstream: string) => ({
  SALLYPORT_PORT: '0',
  SALLYPORT_DATA_DIR: join(base, 'data'),
  SALLYPORT_RUN_DIR: join(base, 'run'),
  SALLYPORT_WORKSPACE_ROOTS: join(base, 'projects'),
  SALLYPORT_MODELS: model,
  SALLYPORT_DEFAULT_MODEL: model,
  SALLYPORT_REQUESTS_PER_MINUTE: highLimit,
  SALLYPORT_REQUESTS_PER_HOUR: highLimit,
  SALLYPORT_BURST_SIZE: highLimit,
  ANTHROPIC_BASE_URL: upstream,
  ANTHROPIC_API_KEY: upstreamKey,
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
export async function openStage(): Promise<Stage> {
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
    const upstream = await start('upstream', 'bench/upstream.ts', { env: {} });
    const naive = await start('naive', 'bench/naive/main.ts', { env: naiveSettings(base, upstream.url) });
    const env = serviceSettings(base, upstream.url);
    const ours = await start('sallyport', 'packages/server/src/main.ts', { args: ['serve'], env });
    return {
      naive: naivePeer(naive.url),
      sallyport: ourPeer(ours.url, keys[0] ?? ''),
      service: { url: ours.url, keys },
      jailed: !ours.banner.includes('WITHOUT A JAIL'),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}
