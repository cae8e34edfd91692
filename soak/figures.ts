import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as delay } from 'node:timers/promises';
import { descriptors, memoryMb, naming } from './procfs.ts';
import { letGo, type Service } from './service.ts';

/** What a service holds on to. */
export interface Figures {
  /** Of the heap after a collection of garbage, and of all memory, in MB. */
  readonly heapMb: number;
  readonly memoryMb: number;
  readonly descriptors: number;
  readonly timers: number;
  /** What else keeps the program alive: sockets, pipes, requests. */
  readonly resources: number;
  /** Processes of Claude Code that it lists, and all that run in its jails. */
  readonly processes: number;
  readonly systemProcesses: number;
  readonly jails: number;
  /** Rows that are to be there only while something runs. */
  readonly openTurns: number;
  readonly busyConversations: number;
  readonly pendingApprovals: number;
  readonly reservations: number;
}

/** By how much a figure may be above what it was: a share of that, and so much. */
interface Allowance {
  readonly what: string;
  readonly share: number;
  readonly more: number;
  /** True: it may not be below either. */
  readonly exact: boolean;
}

const about = (what: string, share: number, more: number): Allowance => ({ what, share, more, exact: false });
const exact = (what: string): Allowance => ({ what, share: 0, more: 0, exact: true });

/**
 * Spares that were used or killed are to be there again. Memory comes back only roughly: code is compiled, buffers grow
 * once, and pages stay where they are. Descriptors and resources hold connections that are kept alive for a while.
 */
export const allowances: Readonly<Record<keyof Figures, Allowance>> = {
  heapMb: about('heap, MB', 0.2, 8),
  memoryMb: about('memory, MB', 0.3, 64),
  descriptors: about('descriptors', 0, 8),
  timers: about('timers', 0, 4),
  resources: about('other resources', 0, 8),
  processes: exact('processes of Claude Code'),
  systemProcesses: exact('processes in jails'),
  jails: exact('jails'),
  openTurns: exact('turns without an end'),
  busyConversations: exact('conversations at work'),
  pendingApprovals: exact('pending approvals'),
  reservations: exact('reservations'),
};

export async function measure(service: Service): Promise<Figures> {
  const inside = await service.inspector.look();
  const jails = join(service.runDir, 'jails');
  const database = new DatabaseSync(join(service.dataDir, 'sallyport.db'), { readOnly: true, timeout: 5000 });
  const count = (table: string, where: string) =>
    Number(database.prepare(`select count(*) as n from ${table} where ${where}`).get()?.['n']);
  try {
    return {
      heapMb: inside.heap / 1e6,
      memoryMb: await memoryMb(service.pid),
      descriptors: await descriptors(service.pid),
      timers: inside.timers,
      resources: inside.resources,
      processes: (await service.processes()).length,
      systemProcesses: (await naming(jails, [service.pid])).length,
      jails: (await readdir(jails)).length,
      openTurns: count('turns', 'ended_at is null'),
      busyConversations: count('conversations', `status not in ('idle', 'ended')`),
      pendingApprovals: count('approvals', `status = 'pending'`),
      reservations: count('reservations', 'true'),
    };
  } finally {
    database.close();
  }
}

/** The figures that have not come back: they are above what they were by more than they may be, or spares are missing. */
export function astray(before: Figures, after: Figures): (keyof Figures)[] {
  const names = Object.keys(allowances) as (keyof Figures)[];
  return names.filter(
    (name) => after[name] > limitOf(name, before) || (allowances[name].exact && after[name] < before[name]),
  );
}

export const limitOf = (name: keyof Figures, before: Figures): number =>
  before[name] * (1 + allowances[name].share) + allowances[name].more;

const againMs = 1000;

/** Measures until all has come back, or until so many milliseconds have passed. */
export async function measureAtRest(service: Service, before: Figures | null, milliseconds: number): Promise<Figures> {
  const since = performance.now();
  for (;;) {
    const left = () => milliseconds - (performance.now() - since);
    await letGo(service, left());
    const after = await measure(service);
    if (before === null || astray(before, after).length === 0 || left() <= 0) return after;
    await delay(againMs);
  }
}

/** The figures as a table, with what is wrong of them. */
export function tableOf(before: Figures, after: Figures): string[] {
  const wrong = new Set(astray(before, after));
  const names = Object.keys(allowances) as (keyof Figures)[];
  const rows = names.map((name) => [
    allowances[name].what,
    ...[before[name], after[name], limitOf(name, before)].map((value) => String(Math.round(value * 10) / 10)),
    wrong.has(name) ? 'NOT RETURNED' : 'returned',
  ]);
  const all = [['', 'before', 'after', 'at most', ''], ...rows];
  const widths = [0, 1, 2, 3].map((column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  return all.map((row) =>
    row.map((cell, at) => (at === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[at] ?? 0))).join('  '),
  );
}
