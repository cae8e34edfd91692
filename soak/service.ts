import { rmSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { ProcessInfo } from '@sallyport/protocol';
import { startSimulator } from '@sallyport/simulator';
import { startChild } from '../bench/child.ts';
import { soakBrain } from './brain.ts';
import type { Body } from './client.ts';
import { Inspector } from './inspector.ts';

/** The service as a user starts it, but for its limits, in a process of its own. */
export interface Service {
  readonly url: string;
  readonly pid: number;
  readonly keys: readonly string[];
  readonly dataDir: string;
  readonly runDir: string;
  readonly inspector: Inspector;
  processes(): Promise<readonly Listed[]>;
  close(): Promise<void>;
}

/** A process of the service, which may be in a state that this program does not know. */
export type Listed = Omit<ProcessInfo, 'state'> & { readonly state: string };

const model = 'sallyport-simulator';
const masterKey = 'soak-admin-key-0123456789abcdef00';
const keys = [1, 2, 3].map((number) => `soak-user-key-${number}-0123456789abcdef0`);

/** Starts the service with a simulated model. When it cannot start, nothing is left. */
export async function startService(): Promise<Service> {
  const base = await realpath(await mkdtemp(join(tmpdir(), 'sp-soak-')));
  await chmod(base, 0o755); // The jail's user has to be able to enter it where no jail is used.
  const remove = () => rmSync(base, { recursive: true, force: true, maxRetries: 3 });
  process.once('exit', remove);
  const [dataDir, runDir, projects] = [join(base, 'data'), join(base, 'run'), join(base, 'projects')];
  await mkdir(projects);
  const simulator = await startSimulator({ script: soakBrain, recordBodies: false });
  const logFile = join(base, 'service.log');
  const env = {
    NODE_OPTIONS: '--inspect=127.0.0.1:0',
    SALLYPORT_PORT: '0',
    SALLYPORT_DATA_DIR: dataDir,
    SALLYPORT_RUN_DIR: runDir,
    SALLYPORT_WORKSPACE_ROOTS: projects,
    SALLYPORT_MODELS: model,
    SALLYPORT_REQUESTS_PER_MINUTE: '0',
    SALLYPORT_REQUESTS_PER_HOUR: '0',
    SALLYPORT_BURST_SIZE: '0',
    SALLYPORT_LOG_LEVEL: 'warn',
    ANTHROPIC_BASE_URL: simulator.url,
    ANTHROPIC_API_KEY: 'sk-ant-soak-0123456789abcdef',
    CLAUDE_API_MASTER_KEY: masterKey,
    ...Object.fromEntries(keys.map((key, index) => [`CLAUDE_API_KEY_${index + 1}`, key])),
  };
  const clean = async () => {
    await simulator.close();
    process.off('exit', remove);
    await rm(base, { recursive: true, force: true });
  };
  const file = 'packages/server/src/main.ts';
  const child = await startChild({ file, args: ['serve'], env, cwd: projects, logFile }).catch(async (error) => {
    await clean();
    throw error;
  });
  const inspector = await Inspector.open(logFile);
  return {
    url: child.url,
    pid: child.pid,
    keys,
    dataDir,
    runDir,
    inspector,
    async processes() {
      const headers = { authorization: `Bearer ${masterKey}` };
      const { items } = (await (await fetch(`${child.url}/api/admin/processes`, { headers })).json()) as Body;
      return items as Listed[];
    },
    async close() {
      inspector.close();
      await child.close();
      await clean();
    },
  };
}

const pollMs = 100;
/** So often in a row nothing changed. */
const quietPolls = 10;

/**
 * Has the service keep no process but spares: those that wait for a next turn or for reuse are killed. Gives false when
 * it has not come to rest after so many milliseconds.
 */
export async function letGo(service: Service, milliseconds: number): Promise<boolean> {
  let [before, same] = ['', 0];
  for (let waited = 0; waited < milliseconds; waited += pollMs) {
    const found = await service.processes();
    for (const { state, pid } of found) if (state === 'idle' || state === 'cleared') kill(pid);
    // A jail without a process is one that is being made or removed.
    const jails = await readdir(join(service.runDir, 'jails'));
    const isAtRest = found.every(({ state }) => state === 'spare') && jails.length === found.length;
    const now = found.map(({ process_id, state }) => `${process_id} ${state}`).join();
    same = isAtRest && now === before ? same + 1 : 0;
    if (same >= quietPolls) return true;
    before = now;
    await delay(pollMs);
  }
  return false;
}

/** SIGKILL; gives false when there is no such process any more. */
export function kill(pid: number): boolean {
  try {
    process.kill(pid, 'SIGKILL');
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}
