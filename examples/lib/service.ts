import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { atExit } from './exit.ts';

const program = fileURLToPath(new URL('../../packages/server/src/main.ts', import.meta.url));

/** A Sallyport server in a process of its own. All that it keeps is in one directory, which outlives the process. */
export class Service {
  /** A key of a user. Clients send it as `Authorization: Bearer <key>`. */
  readonly key: string;
  readonly #directory: string;
  readonly #env: Readonly<Record<string, string>>;
  #child: ChildProcess | null = null;
  #url = '';

  /** `env`: settings over those of a server that is alone. */
  constructor(directory: string, env: Readonly<Record<string, string>> = {}) {
    this.#directory = directory;
    this.#env = env;
    this.key = env['CLAUDE_API_KEY_1'] ?? randomUUID();
    atExit(() => this.#child?.kill('SIGKILL')); // if it still runs then
  }

  /** Where it answers now: a free port is taken at each start. */
  get url(): string {
    return this.#url;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** Starts `sallyport serve` and waits until it says its address. Rejects with what it printed when it ends instead. */
  async start(): Promise<void> {
    const child = spawn(process.execPath, [program, 'serve'], {
      // Exactly this environment. Without an ANTHROPIC_API_KEY in it a simulated model answers.
      env: {
        PATH: process.env['PATH'],
        SALLYPORT_HOST: '127.0.0.1',
        SALLYPORT_PORT: '0',
        SALLYPORT_DATA_DIR: join(this.#directory, 'data'),
        SALLYPORT_RUN_DIR: join(this.#directory, 'run'),
        SALLYPORT_WORKSPACE_ROOTS: this.#directory,
        CLAUDE_API_KEY_1: this.key,
        // An example asks faster than the limits of a service let one client.
        SALLYPORT_REQUESTS_PER_MINUTE: '0',
        SALLYPORT_BURST_SIZE: '0',
        ...this.#env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    let output = '';
    const found = Promise.withResolvers<string>();
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => {
        output += chunk.toString();
        const [, url] = /^Address: (\S+)$/mu.exec(output) ?? [];
        if (url !== undefined) found.resolve(url);
      });
    }
    child.once('exit', (code) => found.reject(new Error(`the server ended with ${code}: ${output}`)));
    this.#url = await found.promise;
  }

  /** The hard way, as a crash or a machine that fails: SIGKILL, with no time to tidy up. */
  kill(): Promise<void> {
    return this.#end('SIGKILL');
  }

  /** The proper way: running turns get some time, then it ends. */
  stop(): Promise<void> {
    return this.#end('SIGTERM');
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
  }
}
