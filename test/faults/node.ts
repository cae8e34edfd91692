import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Inspector } from '../../soak/inspector.ts';

const program = join(import.meta.dirname, '../../packages/server/src/main.ts');
const pollMs = 20;

export interface NodeOptions {
  name: string;
  /** All of its environment but PATH. */
  env: Readonly<Record<string, string>>;
  cwd: string;
  /** Where its log files go. */
  logDir: string;
}

/** The real program in a process of its own, which can be killed and started again on the same data. */
export class ServerNode {
  readonly name: string;
  readonly #options: NodeOptions;
  readonly #logFiles: string[] = [];
  #child: ChildProcess | null = null;
  #exited: Promise<number | string> = Promise.resolve(0);
  #url = '';
  #env: Readonly<Record<string, string>> = {};

  constructor(options: NodeOptions) {
    this.name = options.name;
    this.#options = options;
  }

  /** Where it answers; where it answered last when it does not run. */
  get url(): string {
    return this.#url;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  get isRunning(): boolean {
    return this.#child !== null && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Resolves with its exit code, or the name of the signal that ended it. */
  get exited(): Promise<number | string> {
    return this.#exited;
  }

  /** All that it has logged. */
  lines(): string[] {
    return this.#logFiles.flatMap((file) => readFileSync(file, 'utf8').split('\n')).filter((line) => line !== '');
  }

  /** Changes settings for the next start. */
  set(env: Readonly<Record<string, string>>): void {
    this.#env = { ...this.#env, ...env };
  }

  /** Starts it and waits until it serves. Rejects with the end of its log when it ends instead. */
  async start(): Promise<void> {
    const { env, cwd, logDir, name } = this.#options;
    const logFile = join(logDir, `${name}-${this.#logFiles.length + 1}.log`);
    const log = openSync(logFile, 'w');
    const child = spawn(process.execPath, [program, 'serve'], {
      cwd,
      env: { PATH: process.env['PATH'], NODE_OPTIONS: '--inspect=127.0.0.1:0', ...env, ...this.#env },
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    this.#logFiles.push(logFile);
    this.#child = child;
    const killed = () => child.kill('SIGKILL');
    process.once('exit', killed);
    this.#exited = once(child, 'exit').then(([code, signal]) => {
      process.off('exit', killed);
      return (code ?? signal) as number | string;
    });
    for (;;) {
      const address = /^Address: (\S+)$/mu.exec(readFileSync(logFile, 'utf8'))?.[1];
      if (address !== undefined) {
        this.#url = address;
        return;
      }
      if (!this.isRunning) throw new Error(`${name} ended: ${readFileSync(logFile, 'utf8').slice(-2000)}`);
      await delay(pollMs);
    }
  }

  signal(name: NodeJS.Signals): void {
    this.#child?.kill(name);
  }

  /** SIGKILL of its own pid. */
  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.#exited;
  }

  /** Runs an expression within it and gives its value. */
  async evaluate<T>(expression: string): Promise<T> {
    const inspector = await this.inspector();
    try {
      return (await inspector.evaluate(expression)) as T;
    } finally {
      inspector.close();
    }
  }

  async inspector(): Promise<Inspector> {
    return await Inspector.open(this.#logFiles.at(-1) ?? '');
  }
}
