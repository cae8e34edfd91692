import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startSimulator, type Brain, type Script, type Simulator } from '@sallyport/simulator';
import { createSallyport, loadSettings, type ComposeOptions, type Sallyport } from '@sallyport/server';

/** The upstream key of test services. It must never be seen anywhere but at the simulator. */
export const upstreamKey = 'sk-ant-canary-7f3a1c5e9b2d4860';
/** The master key of test services. */
export const masterKey = 'test-master-key-0123456789abcdef';
/** A user key of test services. */
export const userKey = 'test-user-key-0123456789abcdef00';

/** Without rate limits, as tests ask more than one client may. */
export const unlimited = {
  SALLYPORT_REQUESTS_PER_MINUTE: '0',
  SALLYPORT_REQUESTS_PER_HOUR: '0',
  SALLYPORT_BURST_SIZE: '0',
};

/** A process for each run, for tests that count processes or kill them. */
export const unshared = { SALLYPORT_PROCESS_USES: '1' };

/** The composed product in this process, with a simulated upstream of its own. */
export interface TestService {
  readonly url: string;
  readonly simulator: Simulator;
  readonly sallyport: Sallyport;
  /** Log lines of the service. */
  readonly logs: string[];
  readonly dataDir: string;
  /** A directory inside the allowed roots, empty at first. */
  readonly root: string;
  close(): Promise<void>;
}

export interface TestServiceOptions {
  readonly script?: Script | Brain;
  /** Environment settings over the test's own. */
  readonly env?: Readonly<Record<string, string>>;
  /** Stands between the service and its stores. */
  readonly stores?: ComposeOptions['stores'];
  /** What bounds the work with Redis. */
  readonly redisBounds?: ComposeOptions['redisBounds'];
}

/** Starts the product through its composition root on a free port, its upstream a simulator that plays the script. */
export async function startService(options: TestServiceOptions = {}): Promise<TestService> {
  const base = await realpath(await mkdtemp(join(tmpdir(), 'sp-test-')));
  await chmod(base, 0o755); // The jail's user has to be able to enter it where no jail is used.
  const root = join(base, 'projects');
  await mkdir(root);
  const simulator = await startSimulator(options.script ? { script: options.script } : {});
  const logs: string[] = [];
  const settings = loadSettings({
    argv: [],
    cwd: base,
    env: {
      SALLYPORT_PORT: '0',
      SALLYPORT_DATA_DIR: join(base, 'data'),
      SALLYPORT_WORKSPACE_ROOTS: root,
      ANTHROPIC_BASE_URL: simulator.url,
      ANTHROPIC_API_KEY: upstreamKey,
      SALLYPORT_MODELS: 'sallyport-simulator',
      SALLYPORT_DEFAULT_MODEL: 'sallyport-simulator',
      CLAUDE_API_MASTER_KEY: masterKey,
      CLAUDE_API_KEY_1: userKey,
      // Tests that count processes say so themselves; a spare in each service would only be in the way of all others.
      SALLYPORT_SPARES: '0',
      ...unlimited,
      ...options.env,
    },
  });
  const sallyport = await createSallyport(settings, {
    logTo: { write: (line: string) => void logs.push(line) },
    ...(options.stores && { stores: options.stores }),
    ...(options.redisBounds && { redisBounds: options.redisBounds }),
  });
  return {
    url: sallyport.url,
    simulator,
    sallyport,
    logs,
    root,
    dataDir: join(base, 'data'),
    async close() {
      await sallyport.close();
      await simulator.close();
      await rm(base, { recursive: true, force: true });
    },
  };
}

/** Sends a query and gives status, headers and the parsed body. */
export async function query(service: { url: string }, body: unknown, init: { key?: string; path?: string } = {}) {
  const response = await fetch(`${service.url}${init.path ?? '/api/claude/query'}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${init.key ?? userKey}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { status: response.status, headers: response.headers, body: (await response.json()) as Record<string, any> };
}

/** Starts the program itself in a process of its own, as `npm start` does, and waits until it serves. */
export interface Program {
  readonly url: string;
  readonly pid: number;
  readonly output: () => string;
  /** Resolves with the exit code or the name of the signal. */
  readonly exited: Promise<number | string>;
  signal(name: NodeJS.Signals): void;
}

const mainFile = new URL('../../packages/server/src/main.ts', import.meta.url).pathname;

/** Runs `sallyport` with arguments and exactly this environment, if need be through another command. */
export function runProgram(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  cwd: string,
  through: readonly string[] = [],
) {
  const [file = '', ...rest] = [...through, process.execPath, mainFile, ...args];
  const child = spawn(file, rest, { cwd, env: { PATH: process.env['PATH'], ...env } });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const exited = once(child, 'exit').then(([code, signal]) => (code ?? signal) as number | string);
  return { child, exited, output: () => output };
}

/** Starts `sallyport serve` and waits for its address. Rejects with what it printed when it ends instead. */
export async function startProgram(
  env: Readonly<Record<string, string>>,
  cwd: string,
  through: readonly string[] = [],
): Promise<Program> {
  const { child, exited, output } = runProgram(['serve'], env, cwd, through);
  const address = /^Address: (\S+)$/mu;
  const started = (async () => {
    while (!address.test(output())) await once(child.stdout, 'data');
  })();
  await Promise.race([
    started,
    exited.then((code) => {
      throw new Error(`the program ended with ${code}: ${output()}`);
    }),
  ]);
  return {
    url: address.exec(output())?.[1] ?? '',
    pid: child.pid ?? 0,
    output,
    exited,
    signal: (name) => void child.kill(name),
  };
}
