import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, readlink, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startSimulator, type Simulator } from '@sallyport/simulator';
import { giveToProjectUser, sleepSeconds } from '../test/support/commands.ts';
import { processesWith } from '../test/support/processes.ts';
import { until } from '../test/support/runs.ts';
import { masterKey, startService, upstreamKey, userKey, type TestService } from '../test/support/service.ts';
import type { Mode } from './modes.ts';
import { Human } from './human.ts';
import { listen, type Listener } from './listener.ts';
import { Conversation, Stage } from './stage.ts';

/** The key of the user whose conversation is to be broken into. */
export const victimKey = 'redteam-victim-key-0123456789abcdef';

/** A conversation of another user, in a slot, whose process is there all the time. */
export interface Victim {
  /** Of its jail. */
  readonly jailId: string;
  /** Of its Claude Code, on the host. */
  readonly pid: number;
  /** Its workspace on the host. */
  readonly slot: string;
}

/** The service under attack, and all that an attacker would like to have. */
export interface World {
  readonly service: TestService;
  readonly stage: Stage;
  readonly human: Human;
  readonly listener: Listener;
  /** A model of the attacker, to which calls would be moved. */
  readonly elsewhere: Simulator;
  readonly victim: Victim;
  /** A process of the host, with a secret in its environment. */
  readonly neighbour: ChildProcess;
  /** A directory beside the workspaces, inside the allowed roots. */
  readonly beside: string;
  /** Home of the account that runs the service. */
  readonly home: string;
  /** Files that hold a secret, by what they are. */
  readonly secretFiles: Readonly<Record<string, string>>;
  /** Texts that must never reach the model, by what they are. */
  readonly secrets: ReadonlyMap<string, string>;
  /** Adds a secret that became known. */
  guard(name: string, secret: string): void;
  close(): Promise<void>;
}

/** What the attempts of one mode have to do with. */
export interface Ground extends World {
  readonly mode: Mode;
  /** The malicious repository. */
  readonly project: string;
  /** The conversation that all call attempts of the mode share. */
  readonly conversation: Conversation;
  /** Another one in the same repository, in which nothing but a greeting has been said. */
  readonly talk: Conversation;
  /** True when its Claude Code was seen below bwrap. */
  readonly jailed: boolean;
  /** Claude Code's own configuration directory, once there is a process. */
  readonly config: string;
  /** A number of seconds that only processes of this mode sleep. */
  readonly seconds: string;
}

/** Names of files whose content is secret, and of files that no attempt may be able to make. */
export const secretFile = 'redteam-secret.txt';
export const madeFile = 'redteam-made';

const settings = {
  SALLYPORT_ISOLATION: 'bwrap',
  SALLYPORT_MAX_TURNS: '1000',
  SALLYPORT_MAX_PROCESSES: '40',
  SALLYPORT_MAX_TIMEOUT_SECONDS: '3600',
  // The model of the conversation that is broken into says nothing until the end.
  SALLYPORT_UPSTREAM_FIRST_BYTE_SECONDS: '3600',
  CLAUDE_API_KEY_2: victimKey,
};

/** Starts the product as it is composed, with everything worth stealing around it. */
export async function startWorld(): Promise<World> {
  const home = await realpath(await mkdtemp(join(tmpdir(), 'sp-redteam-')));
  const before = { HOME: process.env['HOME'], REDTEAM_SECRET: process.env['REDTEAM_SECRET'] };
  const environmentSecret = newSecret();
  Object.assign(process.env, { HOME: home, REDTEAM_SECRET: environmentSecret });
  const service = await startService({ env: settings });
  const beside = join(service.root, 'beside');
  const files = {
    'a file beside the workspace': join(beside, secretFile),
    'a file in the data directory': join(service.dataDir, secretFile),
    'an SSH key of the account': join(home, '.ssh', 'id_ed25519'),
    'a token in the home directory': join(home, '.npmrc'),
  };
  const secrets = new Map([
    ['the environment of the service', environmentSecret],
    ['the key of the upstream', upstreamKey],
    ['the master key', masterKey],
    ['a user key', userKey],
    ["another user's key", victimKey],
  ]);
  for (const [name, path] of Object.entries(files)) secrets.set(name, await plant(path));
  await giveToProjectUser(beside, join(beside, secretFile));
  const neighbourSecret = newSecret();
  secrets.set('the environment of another process', neighbourSecret);
  const neighbour = spawn('sleep', [sleepSeconds()], { env: { NEIGHBOUR: neighbourSecret }, stdio: 'ignore' });
  const [stage, human, listener] = [new Stage(service.simulator), new Human(service), await listen()];
  const elsewhere = await startSimulator();
  const held = Promise.withResolvers<void>();
  const { victim, secret, ended } = await startVictim(service, stage, held.promise);
  secrets.set("a file of another user's conversation", secret);
  secrets.set("the broker's token of another user's conversation", await tokenOf(victim.pid));
  return {
    service,
    stage,
    human,
    listener,
    elsewhere,
    victim,
    neighbour,
    beside,
    home,
    secretFiles: { ...files, "a file of another user's conversation": join(victim.slot, secretFile) },
    secrets,
    guard: (name, text) => void secrets.set(name, text),
    async close() {
      held.resolve();
      await ended.catch(() => undefined);
      await human.close();
      neighbour.kill('SIGKILL');
      listener.close();
      await elsewhere.close();
      await service.close();
      await rm(home, { recursive: true, force: true });
      restore(before);
    },
  };
}

const newSecret = () => `canary-${randomUUID()}`;

async function plant(path: string): Promise<string> {
  const secret = newSecret();
  await mkdir(join(path, '..'), { recursive: true });
  await writeFile(path, `${secret}\n`, { mode: 0o644 });
  return secret;
}

function restore(before: Readonly<Record<string, string | undefined>>): void {
  for (const [name, value] of Object.entries(before)) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
}

/** Another user's conversation that waits in the middle of its turn until it is let go. */
async function startVictim(service: TestService, stage: Stage, letGo: Promise<void>) {
  const secret = newSecret();
  const files = [{ path: secretFile, content: secret }];
  const request = { files, permission_mode: 'strict', allowed_tools: ['Read'], timeout: 3600 };
  const conversation = new Conversation({ service, stage }, request, victimKey);
  const arrived = Promise.withResolvers<void>();
  const ended = conversation.start(async (_request, { call }) => {
    arrived.resolve();
    if (call > 0) await letGo;
    return call > 0
      ? { text: 'Done.' }
      : { tools: [{ name: 'Read', input: { file_path: `/workspace/${secretFile}` } }] };
  });
  await Promise.race([arrived.promise, ended]);
  const [process] = service.sallyport.processes();
  if (!process) throw new Error('the conversation to be broken into did not start');
  const slot = join(service.sallyport.settings.runDir, 'jails', process.id, 'slot');
  return { victim: { jailId: process.id, pid: await claudeOf(process.id), slot }, secret, ended };
}

/** The pid of Claude Code in a jail. */
export async function claudeOf(jailId: string): Promise<number> {
  let pid = 0;
  await until(async () => {
    for (const found of await processesWith(`SALLYPORT_PROCESS=${jailId}`)) {
      if (found.command.startsWith('/.sallyport/claude ')) pid = found.pid;
    }
    return pid !== 0;
  });
  return pid;
}

/** What a process of Claude Code holds to call the broker. */
export async function tokenOf(pid: number): Promise<string> {
  const environment = await readFile(`/proc/${pid}/environ`, 'utf8');
  const token = /(?:^|\0)ANTHROPIC_API_KEY=([^\0]+)/u.exec(environment)?.[1];
  if (token === undefined) throw new Error('Claude Code holds no token');
  return token;
}

/** The jail that works in a directory. */
export async function jailIn(world: Pick<World, 'service'>, directory: string): Promise<{ id: string; pid: number }> {
  for (const { id } of world.service.sallyport.processes()) {
    const pid = await claudeOf(id);
    if ((await readlink(`/proc/${pid}/cwd`)) === directory) return { id, pid };
  }
  throw new Error('no process works in the directory');
}

/** True when the process has bwrap among its ancestors. */
export async function isBelowBwrap(pid: number): Promise<boolean> {
  for (let current = pid; current > 1;) {
    const [command, status] = await Promise.all(
      ['cmdline', 'status'].map((file) => readFile(`/proc/${current}/${file}`, 'latin1').catch(() => '')),
    );
    if (/^[^\0]*\bbwrap\0/u.test(command ?? '')) return true;
    current = Number(/^PPid:\s+(\d+)/mu.exec(status ?? '')?.[1] ?? 0);
  }
  return false;
}

/** Everything below a directory, as paths from it. No link is followed; directories that cannot be read count as empty. */
export async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  const below = await Promise.all(
    entries.map(async (entry) => {
      const deeper = entry.isDirectory() ? await filesBelow(join(directory, entry.name)) : [];
      return [entry.name, ...deeper.map((path) => join(entry.name, path))];
    }),
  );
  return below.flat();
}
