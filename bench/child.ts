import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync, closeSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** A program of ours in a process of its own. */
export interface Child {
  readonly url: string;
  readonly pid: number;
  /** What it printed until it served. */
  readonly banner: string;
  /** Asks it to end, and waits until it has. */
  close(): Promise<void>;
}

export interface ChildOptions {
  /** From the repository's root. */
  readonly file: string;
  readonly args?: readonly string[];
  /** All of its environment but PATH. */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  /** Gets what it logs, so that nobody has to read that while it is measured. */
  readonly logFile: string;
}

const root = join(import.meta.dirname, '..');
const closeMs = 20_000;
const shownChars = 2000;

/** Starts a program and waits for its address. Rejects with the end of its log when it ends instead. */
export async function startChild({ file, args = [], env, cwd, logFile }: ChildOptions): Promise<Child> {
  const log = openSync(logFile, 'w');
  const child = spawn(process.execPath, [join(root, file), ...args], {
    cwd,
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'pipe', log],
    // A group of its own: the Claude Code of the naive peer outlives it otherwise.
    detached: true,
  });
  closeSync(log);
  const killAll = () => killGroup(child.pid);
  // Before those who remove its files.
  process.prependOnceListener('exit', killAll);
  const exited = once(child, 'exit').then(() => process.off('exit', killAll));
  let banner = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (banner += text));
  const address = /^Address: (\S+)$/mu;
  const started = (async () => {
    while (!address.test(banner)) await once(child.stdout!, 'data');
  })();
  const ended = exited.then(() => {
    throw new Error(`${file} ended: ${readFileSync(logFile, 'utf8').slice(-shownChars)}`);
  });
  await Promise.race([started, ended]);
  ended.catch(() => {});
  return {
    url: address.exec(banner)?.[1] ?? '',
    pid: child.pid ?? 0,
    banner,
    async close() {
      child.kill('SIGTERM');
      const late = new AbortController();
      const kill = delay(closeMs, undefined, { signal: late.signal }).then(killAll, () => undefined);
      await exited;
      late.abort();
      await kill;
      killAll();
    },
  };
}

/** Kills what is left of a process and of those it started. */
function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
