import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { SallyportError } from '../engine/errors.ts';
import { createKeptFiles, type KeptAs } from './kept-files.ts';
import { sweepLitter, type Litter } from './litter.ts';
import { identify, isRunning, killAll, type ProcessId, type Traces } from './registry.ts';
import { deleteTree, layout } from './slots.ts';

/** What the run directory keeps of one jail, so that another process can end it. */
export interface Entry extends Traces {
  /** The server that made it. */
  readonly owner: ProcessId;
  /** What its processes may leave in their workspace. */
  readonly litter?: Litter | null;
  /** Where the files of its slot are to be kept, from when its process was started: before that they are not whole. */
  readonly kept?: (KeptAs & { readonly directory: string }) | null;
}

/** What a reaping found. */
export interface Reaped {
  /** Jails of earlier servers whose processes and directories are gone now. */
  readonly removed: string[];
  /** Jails of which something could not be ended or deleted. */
  readonly stuck: string[];
}

const patience = 5_000;
const entryFile = 'entry.json';

/** Writes down a jail, at once: what is not in here would outlive a server that is killed. */
export function record(directory: string, entry: Entry): void {
  const path = join(directory, entryFile);
  writeFileSync(`${path}.new`, JSON.stringify(entry), { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/**
 * Ends and deletes the jails of servers that are gone. Processes are killed only if pid and time of start are those
 * written down, or if they carry the jail's marker or its own uid. What a turn wrote into a slot is kept: its transcript
 * says that it was written; but not when the turn has ended elsewhere. With `owner`, ends the jails of that server alone, whether or not it still runs, but leaves
 * slots that are to be kept to the next server.
 */
export async function reap(runDir: string, owner?: ProcessId): Promise<Reaped> {
  const reaped: Reaped = { removed: [], stuck: [] };
  const { jails } = layout(runDir);
  for (const id of await readdir(jails)) {
    const directory = join(jails, id);
    const entry = readEntry(directory, id);
    if (owner === undefined ? entry !== null && isRunning(entry.owner) : !isSame(entry?.owner, owner)) continue;
    const gone = await killAll(entry ?? { id, uid: null, leader: null }, patience);
    if (gone && entry?.litter) await sweepLitter(entry.litter);
    if (owner !== undefined && entry?.kept) continue;
    const deleted =
      gone &&
      (await salvage(directory, entry)) &&
      (await deleteTree(directory).then(
        () => true,
        () => false,
      ));
    (deleted ? reaped.removed : reaped.stuck).push(id);
  }
  return reaped;
}

/** False when the files of a slot could not be kept, but may be the next time. */
async function salvage(directory: string, entry: Entry | null): Promise<boolean> {
  if (!entry?.kept) return true;
  const { directory: keptDir, ...kept } = entry.kept;
  try {
    await createKeptFiles(keptDir).salvage(kept, join(directory, 'slot'));
    return true;
  } catch (error) {
    // More than may be kept of one slot: what was kept before stays.
    return error instanceof SallyportError;
  }
}

const isSame = (one: ProcessId | undefined, other: ProcessId): boolean =>
  one?.pid === other.pid && one.start === other.start;

/** Null when the server was killed before it wrote the entry: then no process was started either. */
function readEntry(directory: string, id: string): Entry | null {
  try {
    const entry = JSON.parse(readFileSync(join(directory, entryFile), 'utf8')) as Entry;
    if (!isProcessId(entry.owner) || (entry.leader !== null && !isProcessId(entry.leader))) return null;
    // Only a server that runs as root gives jails a uid of their own; another server's entry may be forged by its processes.
    return { ...entry, id, uid: process.getuid?.() === 0 ? entry.uid : null };
  } catch {
    return null;
  }
}

const isProcessId = (value: ProcessId | undefined): value is ProcessId =>
  Number.isInteger(value?.pid) && typeof value?.start === 'string';

/** Starts a process that ends and deletes the jails of this server when this server is gone, however it went. */
export function startWatchdog(runDir: string, owner: ProcessId): ChildProcess {
  const args = [import.meta.filename, runDir, String(owner.pid), owner.start];
  const watchdog = spawn(process.execPath, args, {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
    env: {},
    cwd: '/',
  });
  // Neither it nor its pipe may keep this server alive.
  watchdog.unref();
  (watchdog.stdin as unknown as { unref?(): void } | null)?.unref?.();
  return watchdog;
}

/**
 * As a program (`reaper.ts <run directory> <pid> <start>`): waits until its standard input ends, which is when the
 * server that started it is gone, then ends what that server left behind. For servers without jails, whose processes
 * nothing else would end.
 */
async function watch(runDir: string, owner: ProcessId): Promise<void> {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
  for await (const _ of process.stdin);
  await reap(runDir, owner);
}

if (import.meta.main) {
  const [runDir, pid, start] = process.argv.slice(2);
  const self = identify(process.pid);
  if (runDir === undefined || pid === undefined || start === undefined || self === null) process.exitCode = 2;
  else await watch(runDir, { pid: Number(pid), start });
}
