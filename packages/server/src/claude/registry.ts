import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { readFile, readdir } from 'node:fs/promises';

/** Environment variable that every process of a jail carries; its value is the id of the jail. */
export const marker = 'SALLYPORT_PROCESS';

/** One process for good: a pid alone may be given to another process later. */
export interface ProcessId {
  readonly pid: number;
  /** When it started, as the system tells it. Only to be compared. */
  readonly start: string;
}

/** What has to be ended when a jail is. */
export interface Traces {
  readonly id: string;
  /** A uid that no other process of this machine has, or null. */
  readonly uid: number | null;
  /** The first process, leader of its group; null when none was started. */
  readonly leader: ProcessId | null;
}

/** Names the running process of that pid; null when there is none, or only a zombie. */
export function identify(pid: number): ProcessId | null {
  if (process.platform !== 'linux') return identifyByPs(pid);
  const stat = statOf(pid);
  return stat === null ? null : { pid, start: stat.start };
}

/** True while that very process runs. */
export function isRunning(known: ProcessId): boolean {
  return identify(known.pid)?.start === known.start;
}

/**
 * Kills (SIGKILL) what runs of a jail: the leader's group, and every process that carries the marker or the uid.
 * Gives the number of processes that were found; 0 proves that none is left, zombies aside.
 */
export async function killTraces(traces: Traces): Promise<number> {
  let found = 0;
  if (traces.leader !== null && isRunning(traces.leader)) {
    found += 1;
    killGroup(traces.leader.pid);
  }
  if (process.platform !== 'linux') return found;
  const mark = `${marker}=${traces.id}`;
  for (const entry of await readdir('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    if (!(await belongs(pid, traces.uid, mark))) continue;
    found += 1;
    kill(pid);
  }
  return found;
}

/** Repeats `killTraces` until nothing is left. Gives false when something is after `milliseconds`. */
export async function killAll(traces: Traces, milliseconds: number): Promise<boolean> {
  const pause = 20;
  for (let waited = 0; ; waited += pause) {
    if ((await killTraces(traces)) === 0) return true;
    if (waited >= milliseconds) return false;
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

/** SIGKILL for the group of a leader, and for the leader itself if it has no group yet. */
export function killGroup(pid: number): void {
  kill(-pid);
  kill(pid);
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has gone already, or it is not ours to kill; the next look tells which.
  }
}

async function belongs(pid: number, uid: number | null, mark: string): Promise<boolean> {
  try {
    if (uid !== null) {
      const status = await readFile(`/proc/${pid}/status`, 'utf8');
      if (/^State:\s+[ZX]/m.test(status)) return false;
      if (new RegExp(`^Uid:.*\\b${uid}\\b`, 'm').test(status)) return true;
    }
    const environment = await readFile(`/proc/${pid}/environ`, 'latin1');
    return environment.split('\0').includes(mark);
  } catch {
    return false; // it has gone, or it belongs to somebody else
  }
}

/** A zombie counts as gone: it does nothing, and only its parent can remove it. */
function statOf(pid: number): { start: string } | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name in parentheses may hold anything, so fields are counted after the last one.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    const [state, start] = [fields[0], fields[19]];
    return state === 'Z' || state === 'X' || start === undefined ? null : { start };
  } catch {
    return null;
  }
}

function identifyByPs(pid: number): ProcessId | null {
  const { status, stdout } = spawnSync('/bin/ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8', env: {} });
  const start = status === 0 ? stdout.trim() : '';
  return start === '' ? null : { pid, start };
}
