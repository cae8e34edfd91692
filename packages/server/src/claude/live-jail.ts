import {
  spawn,
  type ChildProcess,
  type ChildProcessWithoutNullStreams,
  type SpawnOptions as NodeSpawn,
} from 'node:child_process';
import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { SandboxSettings, SpawnOptions } from '@anthropic-ai/claude-agent-sdk';
import type { FileInput } from '@sallyport/protocol';
import { SallyportError } from '../engine/errors.ts';
import type { Log } from '../engine/ports.ts';
import { wallsCommand, type Walls } from './bwrap.ts';
import { readCommand, readText } from './file-reading.ts';
import type { Jail } from './jail-types.ts';
import type { KeptAs } from './kept-files.ts';
import type { Litter } from './litter.ts';
import { record } from './reaper.ts';
import { identify, killAll, killGroup, killTraces, marker, type ProcessId, type Traces } from './registry.ts';
import { emptyDirectory, forgetSessions } from './leftovers.ts';
import { memoryOf, pidsBelow } from './process-tree.ts';
import { beforeRun, shortageSeconds } from './shortage.ts';
import { writeFilesBelow } from './slot-files.ts';
import { deleteTree, type Place, type User } from './slots.ts';
import { readStamps, stampsCommand } from './stamps.ts';

/** What `open` found out about one process's place. */
export interface JailPlan {
  readonly id: string;
  readonly place: Place;
  readonly projectPath: string | null;
  /** Null: the process runs as ourselves. */
  readonly user: User | null;
  /** True when no other process of the machine has that user. */
  readonly ownUser: boolean;
  /** Null: no walls. */
  readonly walls: Walls | null;
  readonly root: string;
  readonly env: Readonly<Record<string, string>>;
  readonly claudeExecutable: string;
  readonly sandbox: SandboxSettings | undefined;
  /** True: the process cannot change the files of its slot. */
  readonly fixed: boolean;
  /** Keeps the files of the slot. */
  readonly keep: (kept: KeptAs) => Promise<void>;
  /** Notes that the process may change them from now on. */
  readonly begin: (kept: KeptAs) => Promise<void>;
  /** Below which directory files are kept, and as what at first; null: not at all. */
  readonly keptDir: string;
  readonly kept: KeptAs | null;
  /** False when the project's path names another directory by now. */
  readonly isPlaceSame: () => Promise<boolean>;
  readonly owner: ProcessId;
  /** What the process may leave in its workspace; null: nothing. */
  readonly litter: Litter | null;
  /** Deletes the litter. Told when no process is left. */
  readonly sweep: () => Promise<void>;
  readonly log: Log;
  /** Told before the process starts. */
  readonly starting: () => void;
  /** Told when nothing is left of it. */
  readonly removed: () => void;
}

/** A `Jail` over its plan. */
export class LiveJail implements Jail {
  readonly id: string;
  readonly jailed: boolean;
  readonly root: string;
  readonly hostRoot: string;
  readonly env: Readonly<Record<string, string>>;
  readonly claudeExecutable: string;
  readonly sandbox: SandboxSettings | undefined;
  readonly exited: Promise<void>;
  readonly #plan: JailPlan;
  readonly #exit = Promise.withResolvers<void>();
  #child: ChildProcess | null = null;
  #leader: ProcessId | null = null;
  #killed = false;
  #kept: KeptAs | null;
  /** True when files were put into the slot that are not kept yet. */
  #put = false;
  /** Ends when it is noted that files may change, or when that failed. */
  #noted: Promise<unknown> = Promise.resolve();
  #removal: Promise<void> | null = null;
  #swept: Promise<void> | null = null;

  constructor(plan: JailPlan) {
    this.#plan = plan;
    this.#kept = plan.kept;
    this.id = plan.id;
    this.jailed = plan.walls !== null;
    this.root = plan.root;
    this.hostRoot = plan.projectPath ?? plan.place.slot;
    this.env = plan.env;
    this.claudeExecutable = plan.claudeExecutable;
    this.sandbox = plan.sandbox;
    this.exited = this.#exit.promise;
  }

  /** The pid of the process on this host, while there is one. */
  get pid(): number | null {
    return this.#leader?.pid ?? null;
  }

  spawn({ command, args, env, signal }: SpawnOptions): ChildProcessWithoutNullStreams {
    if (this.#child !== null || this.#killed)
      throw new SallyportError('agent_crashed', { cause: new Error('jail used twice') });
    this.#plan.starting();
    const complete = { ...definedOnly(env), [marker]: this.id };
    const child = this.#startFirst([command, ...args], { env: complete, signal, stdio: 'pipe' });
    this.#child = child;
    // The SDK listens too, more often for a process that is parked.
    child.setMaxListeners(0);
    child.once('exit', () => void this.#sweep());
    // An aborted signal is told as an error too; without a listener it would end the server.
    child.on('error', () => {});
    this.#leader = identify(child.pid);
    try {
      // The process waits for its first message on standard input, which nobody can send before this returns.
      this.#record();
    } catch (error) {
      this.kill();
      throw SallyportError.from(beforeRun(error));
    }
    return child;
  }

  async writeFiles(files: readonly FileInput[]): Promise<void> {
    if (this.#plan.projectPath !== null)
      throw new SallyportError('internal', { cause: new Error('files go into slots only') });
    this.#put = true;
    await writeFilesBelow(this.#plan.place.slot, files, this.#plan.user);
  }

  async writeConfig(file: FileInput): Promise<void> {
    if (this.#child !== null)
      throw new SallyportError('internal', { cause: new Error('the process is there already') });
    await writeFilesBelow(this.#plan.place.config, [file], this.#plan.user);
  }

  async keepFiles(): Promise<void> {
    if (this.#child !== null) await this.#end();
    await this.keepFilesIdle();
  }

  async keepFilesIdle(): Promise<void> {
    if (this.#kept === null || (this.#plan.fixed && !this.#put)) return;
    await this.#noted;
    await this.#plan.keep(this.#kept);
    this.#put = false;
  }

  keepAs(kept: KeptAs): void {
    if (this.#plan.projectPath !== null) return;
    this.#kept = kept;
  }

  async beginFiles(): Promise<void> {
    if (this.#kept === null || this.#plan.fixed) return;
    if (this.#child !== null) this.#record();
    const noted = this.#plan.begin(this.#kept);
    this.#noted = noted.catch(() => {});
    await noted;
  }

  async reset(session: string): Promise<void> {
    const { place, projectPath, user } = this.#plan;
    this.#kept = null;
    this.#record();
    if (projectPath === null) await emptyDirectory(place.slot);
    await forgetSessions(place.config, session, user);
  }

  pids(): number[] {
    return this.#leader === null ? [] : pidsBelow(this.#leader.pid);
  }

  memoryBytes(): number {
    return memoryOf(this.pids());
  }

  async isPlaceSame(): Promise<boolean> {
    return await this.#plan.isPlaceSame();
  }

  async readFile(path: string, maxBytes: number): Promise<string | null> {
    if (this.#killed) throw new Error('the jail has been closed');
    return await readText(this.#start(readCommand(path, maxBytes), this.#reading), maxBytes);
  }

  async stamps(limit: number): Promise<ReadonlyMap<string, string> | null> {
    if (this.#killed) return null;
    try {
      return await readStamps(this.#start(stampsCommand, this.#reading), limit);
    } catch (error) {
      this.#plan.log.warn({ jail: this.id, err: error }, 'the files of a workspace could not be listed');
      return null;
    }
  }

  kill(): void {
    this.#killed = true;
    const child = this.#child;
    if (child === null) this.#exit.resolve();
    else if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) killGroup(child.pid);
    // Daemons that left the group; where there are walls they die with it.
    void killTraces(this.#traces()).catch(() => {});
  }

  remove(): Promise<void> {
    this.#removal ??= this.#remove();
    return this.#removal;
  }

  async #remove(): Promise<void> {
    const { place, removed } = this.#plan;
    await this.#end();
    await deleteTree(place.directory);
    removed();
  }

  async #end(): Promise<void> {
    this.kill();
    await this.exited;
    if (!(await killAll(this.#traces(), 5_000))) throw new Error(`processes of jail ${this.id} cannot be ended`);
    this.#swept ??= this.#plan.sweep();
    await this.#swept;
  }

  /** After the end of the first process: resolves `exited` once none of the others is left. */
  async #sweep(): Promise<void> {
    for (;;) {
      const gone = await killAll(this.#traces(), 5_000).catch(() => delay(1_000, false));
      if (gone) break;
      this.#plan.log.error({ jail: this.id }, 'processes of a jail cannot be ended; trying again');
    }
    this.#leader = null;
    this.#exit.resolve();
  }

  /** For commands of ours that look at the workspace. */
  get #reading(): NodeSpawn {
    const env = { PATH: this.env['PATH'], LANG: 'C', [marker]: this.id };
    return { env, stdio: ['ignore', 'pipe', 'ignore'] };
  }

  /** Writes down what a later server must end, and what it must keep. */
  #record(): void {
    const { owner, litter, keptDir, place } = this.#plan;
    const kept = this.#kept && { directory: keptDir, ...this.#kept };
    record(place.directory, { ...this.#traces(), owner, litter, kept });
  }

  #traces(): Traces {
    return { id: this.id, uid: this.#plan.ownUser ? (this.#plan.user?.uid ?? null) : null, leader: this.#leader };
  }

  /** Starts the first process. Throws `overloaded` when the system gives no more processes or files. */
  #startFirst(
    command: readonly string[],
    options: NodeSpawn,
  ): ChildProcessWithoutNullStreams & { readonly pid: number } {
    let cause: unknown = new Error(`${command[0]} could not be started`);
    try {
      const child = this.#start(command, options);
      if (child.pid !== undefined) return child as ChildProcessWithoutNullStreams & { readonly pid: number };
      // The reason comes later, as an event, when the caller has been told already.
      child.once('error', (error) =>
        this.#plan.log.error({ jail: this.id, err: error }, 'a process could not be started'),
      );
    } catch (error) {
      cause = error;
    }
    this.#killed = true;
    this.#exit.resolve();
    const lacking = this.jailed || existsSync(command[0]!);
    throw new SallyportError(lacking ? 'overloaded' : 'agent_crashed', {
      cause,
      ...(lacking && { retryAfter: shortageSeconds }),
    });
  }

  /** Starts a command where the process lives, in a group of its own. */
  #start(command: readonly string[], options: NodeSpawn): ChildProcess {
    const { walls, user } = this.#plan;
    const group = { ...options, detached: true };
    if (walls === null) return spawn(command[0]!, command.slice(1), { ...group, cwd: this.root, ...user });
    const { file, args } = wallsCommand(walls, command);
    return spawn(file, args, { ...group, cwd: '/' });
  }
}

function definedOnly(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(Object.entries(env).filter((pair): pair is [string, string] => pair[1] !== undefined));
}
