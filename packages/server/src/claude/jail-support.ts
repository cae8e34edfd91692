import { chmod, chown, mkdir, mkdtemp, readdir, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { TestContext } from 'node:test';
import { systemClock } from '../engine/clock.ts';
import type { Log } from '../engine/ports.ts';
import { SallyportError } from '../engine/errors.ts';
import { createJails, type Jail, type Jails, type JailsOptions } from './jail.ts';
import { prepareRunDirectory } from './slots.ts';

// What the tests of jails share.

export const isRoot = process.getuid?.() === 0;
export const silent: Log = { info() {}, warn() {}, error() {} };
/** A process with a workspace of its own. */
export const slot = { projectPath: null, access: 'rw', bash: true } as const;
/** The user of projects where the tests run as root; else their own. */
export const projectUser = isRoot ? { uid: 12345, gid: 12345 } : { uid: process.getuid!(), gid: process.getgid!() };
/** Stands for the Claude Code binary where a test runs programs of its own. */
export const anyProgram = '/bin/sh';

/** A fresh directory that every user may pass through, as the system's temporary directory is; deleted after the test. */
export async function freshDirectory(t: TestContext, where = tmpdir()): Promise<string> {
  const path = await realpath(await mkdtemp(join(where, 'spj-')));
  await chmod(path, 0o755);
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** A project with a file `read.me`, below a directory that is closed to the project's user where we are root. */
export async function freshProject(t: TestContext, mode = 0o700): Promise<string> {
  const parent = await freshDirectory(t);
  await chmod(parent, 0o700);
  const path = join(parent, 'project');
  await mkdir(path);
  await writeFile(join(path, 'read.me'), 'hello');
  await chmod(path, mode);
  for (const each of [join(path, 'read.me'), path]) await chown(each, projectUser.uid, projectUser.gid);
  return path;
}

/** For `assert.throws` and `assert.rejects`: an error of the catalogue with that code. */
export const refusedWith = (code: string) => (error: unknown) => error instanceof SallyportError && error.code === code;

/** Jails over a run directory of their own, closed after the test. */
export async function startJails(
  t: TestContext,
  options: Partial<JailsOptions> = {},
): Promise<Jails & { runDir: string }> {
  const run = await prepareRunDirectory(options.runDir ?? join(await freshDirectory(t), 'run'));
  const jails = await createJails({
    setting: 'bwrap',
    runDir: run.path,
    hidden: [],
    keptDir: join(run.path, '../kept'),
    brokerSocket: run.brokerSocket,
    claudeBinary: anyProgram,
    clock: systemClock,
    log: silent,
    ...options,
  });
  t.after(() => jails.close());
  return { ...jails, runDir: run.path };
}

/** Starts a shell script as the process of a jail. */
export function startScript(jail: Jail, script: string, env: Record<string, string> = {}) {
  const { signal } = new AbortController();
  return jail.spawn({ command: '/bin/sh', args: ['-c', script], env: { ...jail.env, ...env }, cwd: jail.root, signal });
}

/** Runs a shell script as the process of a jail and gives what it printed, errors too, once nothing of it is left. */
export async function runScript(jail: Jail, script: string, env: Record<string, string> = {}): Promise<string> {
  const child = startScript(jail, `exec 2>&1; ${script}`, env);
  child.stdin.end();
  child.stderr.resume();
  const output = await text(child.stdout);
  await jail.exited;
  return output;
}

/** Pids of processes of this host, zombies aside, whose command line or environment holds the text. */
export async function pidsWith(needle: string): Promise<number[]> {
  const found: number[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)) {
    const read = (file: string) => readFile(`/proc/${pid}/${file}`, 'latin1').catch(() => '');
    if (/^State:\s+[ZX]/m.test(await read('status'))) continue;
    if (`${await read('cmdline')}\n${await read('environ')}`.includes(needle)) found.push(Number(pid));
  }
  return found;
}

/** Seconds to sleep that no other test run on this machine sleeps, so that its processes can be found by them. */
export const nap = (seconds: number): string => `${seconds}.${String(process.pid).padStart(8, '0')}`;

/** Asks again until the answer is true; fails after a generous time. */
export async function until(what: string, answer: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 1500; tries += 1) {
    if (await answer()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`never came true: ${what}`);
}
