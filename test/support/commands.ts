import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { chown, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Step } from '@sallyport/simulator';
import { play, type Played } from './played.ts';
import { processesWith, type Found } from './processes.ts';
import type { TestService } from './service.ts';

/** Every tool there is, in the mode that asks nobody. */
export const strict = {
  permission_mode: 'strict',
  allowed_tools: ['Read', 'Grep', 'Glob', 'Edit', 'Write', 'NotebookEdit', 'Bash', 'WebFetch', 'WebSearch'],
};

/** A root server runs Claude Code as the owner of the project; projects of tests belong to this one then. */
const projectUser = 12345;
export const isRoot = process.getuid?.() === 0;

/** Gives paths to the user of projects. Where the tests are not run by root they are its own already. */
export async function giveToProjectUser(...paths: readonly string[]): Promise<void> {
  if (isRoot) for (const path of paths) await chown(path, projectUser, projectUser);
}

/** What a command prints last when it ran to its end inside the walls of a jail: outside, the host has another name. */
export const ran = 'ran-in-workspace';

/** A call of Bash for a script. */
const bash = (id: string, command: string, more: object = {}) => ({
  id,
  name: 'Bash',
  input: { command: `${command}\necho ran-in-$HOSTNAME`, ...more },
});

/** A step in which the model runs one command. */
export const commandStep = (id: string, command: string, more: object = {}): Step => ({
  tools: [bash(id, command, more)],
});

/** What the commands of a run printed, by id. Fails unless each of them ran to its end in a jail. */
export function printedBy(played: Played, ids: readonly string[]): Record<string, string> {
  assert.equal(played.body['stop_reason'], 'end_turn', JSON.stringify(played.body));
  const printed = Object.fromEntries(ids.map((id) => [id, played.returned(id).text]));
  for (const [id, text] of Object.entries(printed)) assert.ok(text.includes(ran), `${id}: ${text}`);
  return printed;
}

/** Runs commands one after the other in one jailed run and gives what they printed. */
export async function runInJail(
  service: TestService,
  commands: Readonly<Record<string, string>>,
  request: object = {},
): Promise<{ played: Played; printed: Record<string, string> }> {
  assert.equal(service.sallyport.jailed, true);
  const steps = Object.entries(commands).map(([id, command]) => commandStep(id, command));
  const played = await play(service, steps, { ...strict, ...request });
  return { played, printed: printedBy(played, Object.keys(commands)) };
}

/** Makes a project with these files. It and all in it belong to the user of projects. */
export async function makeProject(
  service: Pick<TestService, 'root'>,
  name: string,
  files: Readonly<Record<string, string>>,
): Promise<string> {
  const project = join(service.root, name);
  const made = new Set([project]);
  await mkdir(project);
  for (const [path, content] of Object.entries(files)) {
    const file = join(project, path);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, content);
    for (let each = file; each !== project; each = dirname(each)) made.add(each);
  }
  await giveToProjectUser(...made);
  return project;
}

/** Seconds for a `sleep` that no other process of this machine sleeps, to find it by. */
export const sleepSeconds = (): string => `86399.${process.pid}${randomInt(1e6)}`;

/** Waits until none of the processes is left; fails with those that are after a generous time. */
export async function untilGone(find: () => Promise<readonly Found[]>): Promise<void> {
  let left: readonly Found[] = [];
  for (let tries = 0; tries < 1000; tries += 1) {
    left = await find();
    if (left.length === 0) return;
    await sleep(20);
  }
  assert.fail(`these processes are left: ${JSON.stringify(left)}`);
}

/** The pid of Claude Code itself in the only jail there is. */
export async function claudeInJail({ sallyport }: TestService): Promise<number> {
  const ids = sallyport.processes().map(({ id }) => id);
  assert.equal(ids.length, 1);
  for (const { pid } of await processesWith(`SALLYPORT_PROCESS=${ids[0]}`)) {
    if ((await readFile(`/proc/${pid}/cmdline`, 'utf8')).startsWith('/.sallyport/claude\0')) return pid;
  }
  throw new Error('Claude Code does not run');
}
