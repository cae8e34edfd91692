import { chmod, mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { startSimulator, type Brain, type Script, type Simulator } from '@sallyport/simulator';
import { masterKey, startProgram, unlimited, upstreamKey, userKey, type Program } from './service.ts';

/** A service in a process of its own that can be killed and started again on the same data. */
export interface Restartable {
  readonly simulator: Simulator;
  readonly url: string;
  readonly dataDir: string;
  readonly runDir: string;
  /** A directory inside the allowed roots. */
  readonly root: string;
  readonly program: Program;
  /** SIGKILL of the server's own pid, then a new process on the same data. */
  killAndRestart(): Promise<void>;
  /** SIGKILL of the server's own pid. */
  kill(): Promise<void>;
  start(): Promise<void>;
}

/** Starts a service that is ended, and its directory deleted, when the test ends. */
export async function restartable(
  context: TestContext,
  options: { readonly env?: Readonly<Record<string, string>>; readonly script?: Script | Brain } = {},
): Promise<Restartable> {
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'sp-restart-')));
  await chmod(directory, 0o755); // The jail's user has to be able to enter it.
  const simulator = await startSimulator(options.script ? { script: options.script } : {});
  const root = join(directory, 'work');
  const env = {
    SALLYPORT_PORT: '0',
    SALLYPORT_DATA_DIR: join(directory, 'data'),
    SALLYPORT_RUN_DIR: join(directory, 'run'),
    ANTHROPIC_API_KEY: upstreamKey,
    ANTHROPIC_BASE_URL: simulator.url,
    SALLYPORT_MODELS: 'sallyport-simulator',
    CLAUDE_API_KEY_1: userKey,
    CLAUDE_API_MASTER_KEY: masterKey,
    SALLYPORT_SPARES: '0',
    ...unlimited,
    ...options.env,
  };
  await mkdir(root, { mode: 0o777 });
  let program: Program | null = await startProgram(env, root);
  context.after(async () => {
    program?.signal('SIGTERM');
    await program?.exited;
    await simulator.close();
    await rm(directory, { recursive: true, force: true });
  });
  const running = (): Program => {
    if (!program) throw new Error('the service is not running');
    return program;
  };
  const kill = async () => {
    process.kill(running().pid, 'SIGKILL');
    await running().exited;
    program = null;
  };
  const start = async () => {
    program = await startProgram(env, root);
  };
  return {
    simulator,
    dataDir: join(directory, 'data'),
    runDir: join(directory, 'run'),
    root,
    get url() {
      return running().url;
    },
    get program() {
      return running();
    },
    kill,
    start,
    async killAndRestart() {
      await kill();
      await start();
    },
  };
}
