import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import type { SandboxSettings, SpawnOptions } from '@anthropic-ai/claude-agent-sdk';
import type { FileInput } from '@sallyport/protocol';
import type { Clock } from '../engine/clock.ts';
import type { Log } from '../engine/ports.ts';
import type { Isolation, IsolationSetting } from './isolation.ts';
import type { KeptAs } from './kept-files.ts';
import type { KeptPlace } from './kept-place.ts';

/** What the walls around a process depend on; fixed when it starts. */
export interface JailProfile {
  /** `null`: a slot, an empty directory of the process's own. Else the real path of an allowed directory. */
  readonly projectPath: string | null;
  readonly access: 'ro' | 'rw';
  /** True when Bash is among the tools. */
  readonly bash: boolean;
  /** For slots: as what their files are kept, those kept before are there at the start. Default: not kept. */
  readonly kept?: KeptAs;
  /** False: they are put there, but kept only after `keepAs`. Default: true. */
  readonly keeps?: boolean;
}

/** Where one process lives: its workspace, its config directory, its user and its walls. */
export interface Jail {
  readonly id: string;
  /** False: there are no walls (isolation `none`). */
  readonly jailed: boolean;
  /** The workspace as Claude sees it: `/workspace` for a slot in a jail, else the real path. */
  readonly root: string;
  /** The same directory on the host. */
  readonly hostRoot: string;
  /** The complete environment of Claude Code, without secrets. */
  readonly env: Readonly<Record<string, string>>;
  /** For the SDK's `pathToClaudeCodeExecutable`. */
  readonly claudeExecutable: string;
  /** For the SDK's `sandbox`: keeps Bash from the broker's socket and the token. Undefined without a jail or without Bash. */
  readonly sandbox: SandboxSettings | undefined;
  /**
   * For the SDK's `spawnClaudeCodeProcess`. May be called once. Its `stderr` must be read by the caller. Throws
   * `overloaded` when the system gives no more processes or files.
   */
  spawn(options: SpawnOptions): ChildProcessWithoutNullStreams;
  /**
   * Writes files into the workspace of a slot. Never follows a link; rejects with `workspace_not_accessible` when
   * something is in the way.
   */
  writeFiles(files: readonly FileInput[]): Promise<void>;
  /** Writes a file into the config directory. Only before the process is started. */
  writeConfig(file: FileInput): Promise<void>;
  /**
   * Ends every process of the jail, then replaces what is kept, see `KeptFiles.keep`, by the files of the slot; does
   * nothing where they are not kept. Rejects with `storage_full` when they are more than may be kept. After a failure what was
   * kept before is still there.
   */
  keepFiles(): Promise<void>;
  /**
   * Keeps the files as `keepFiles` does, but leaves the process there. It must be idle or not yet started, and must not
   * have run a command.
   */
  keepFilesIdle(): Promise<void>;
  /** Has the files of a slot kept as this from now on. Does nothing for a project. */
  keepAs(kept: KeptAs): void;
  /** Notes that what is kept may not be all there is from now on, until files are kept again. */
  beginFiles(): Promise<void>;
  /**
   * Takes away all that the turns so far have left: the files of the slot, the name they were kept under, and what
   * Claude Code wrote down of other sessions than this one. The process must be idle and must not have run a command.
   * Rejects when something cannot be taken away.
   */
  reset(session: string): Promise<void>;
  /** The pids of the processes that run in it, in the order of their making; empty where that cannot be told. */
  pids(): number[];
  /** Memory of its processes, in bytes; 0 where that cannot be told. */
  memoryBytes(): number;
  /** False when the path of its project names another directory by now, or none. */
  isPlaceSame(): Promise<boolean>;
  /**
   * The text of a file, read inside the walls within 5 s; null when there is none. Rejects when it has more bytes, is no
   * text, or cannot be read.
   */
  readFile(path: string, maxBytes: number): Promise<string | null>;
  /**
   * Size and times of up to `limit` files by relative path, read inside the walls within 5 s; null when there are more
   * or it cannot be found out.
   */
  stamps(limit: number): Promise<ReadonlyMap<string, string> | null>;
  /** Ends every process of the jail at once (SIGKILL). */
  kill(): void;
  /** Resolves when the process was started, or killed before that, and none of its processes is left. Never rejects. */
  readonly exited: Promise<void>;
  /** Kills what is left, then deletes slot, config directory and temporary files. May be called again. */
  remove(): Promise<void>;
}

/** Makes jails and knows those that are there. */
export interface Jails {
  readonly isolation: Isolation;
  /** Makes a place for one process. Rejects with `path_not_allowed` or `workspace_not_accessible` before anything runs. */
  open(profile: JailProfile): Promise<Jail>;
  /** Deletes the files that are kept under a name. No jail of it may be there. */
  forget(keptName: string): Promise<void>;
  /** Copies what is kept under one name to another, under which nothing is. No jail of either may be running a turn. */
  copyKept(from: string, to: string): Promise<void>;
  /** See `KeptFiles.isWhole`. */
  isKeptWhole(keptName: string): Promise<boolean>;
  /** See `KeptFiles.giveUp`. */
  giveUpKept(keptName: string): Promise<void>;
  /** The processes that are there. `startedAt` is wall time in milliseconds. */
  live(): { readonly id: string; readonly pid: number; readonly startedAt: number; readonly memoryBytes: number }[];
  /** Kills and removes every jail. */
  close(): Promise<void>;
}

export interface JailsOptions {
  readonly setting: IsolationSetting;
  /** The run directory, as `prepareRunDirectory` made it. */
  readonly runDir: string;
  /** Real paths of directories that no process may see: the data directory. The run directory is one by itself. */
  readonly hidden: readonly string[];
  /** The broker's socket, in the run directory. With root servers it must be open to all users. */
  readonly brokerSocket: string;
  /** A hidden directory of ours, for the files of conversations between their turns. Made when needed. */
  readonly keptDir: string;
  /** Says whether that is there. Default: nobody asks. */
  readonly keptPlace?: Pick<KeptPlace, 'check'>;
  /** Path of the Claude Code binary on this host. */
  readonly claudeBinary: string;
  /** PATH of processes that are not jailed. Default: the system's directories. */
  readonly path?: string;
  readonly clock: Clock;
  readonly log: Log;
}
