import { readFileSync } from 'node:fs';
import { availableParallelism, tmpdir, totalmem } from 'node:os';
import { posix } from 'node:path';
import type { Machine } from './resolved.ts';

/** Text of a file; null when it cannot be read. */
export type ReadText = (path: string) => string | null;

/** Cores and bytes of memory. */
export type Resources = Pick<Machine, 'cores' | 'memoryBytes'>;

/**
 * What of `all` this process may use: bounded by the control groups it is in, of version 1 or 2, and by the memory that
 * the system has available now. What cannot be read bounds nothing. At least one core.
 */
export function boundedResources(all: Resources, read: ReadText): Resources {
  const groups = groupsOf(read('/proc/self/cgroup') ?? '');
  const cores = groups.map((directory) => coresOf(directory, read));
  const memory = groups.map((directory) => memoryOf(directory, read));
  const [, available] = /^MemAvailable:\s+(\d+) kB$/mu.exec(read('/proc/meminfo') ?? '') ?? [];
  return {
    cores: Math.max(1, Math.min(all.cores, ...cores)),
    memoryBytes: Math.min(all.memoryBytes, ...memory, available === undefined ? Infinity : Number(available) * 1024),
  };
}

/** This machine, as far as this process may use it. */
export function thisMachine(): Machine {
  const all = { cores: availableParallelism(), memoryBytes: totalmem() };
  return { ...boundedResources(all, readText), uid: process.getuid?.() ?? 0, tmpdir: tmpdir() };
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null; // not a Linux, or not mounted
  }
}

/**
 * The directories that may hold limits of this process: of its groups and of those around them, as each bounds all
 * inside. A container sees its own group at the top, whatever the path says.
 */
function groupsOf(text: string): string[] {
  const directories = text.split('\n').flatMap((line) => {
    const [, controllers = '', path] = /^\d+:([^:]*):(\/.*)$/u.exec(line) ?? [];
    if (path === undefined) return [];
    const mounts = controllers === '' ? ['', 'unified'] : [controllers, ...controllers.split(',')];
    return mounts.flatMap((mount) => upwards(path).map((each) => posix.join('/sys/fs/cgroup', mount, each)));
  });
  return [...new Set(directories)];
}

const upwards = (path: string): string[] => (path === '/' ? [path] : [path, ...upwards(posix.dirname(path))]);

/** A share of a core is a whole one: work is cut into whole processes. */
function coresOf(directory: string, read: ReadText): number {
  const [quota, period] = (read(posix.join(directory, 'cpu.max')) ?? '').trim().split(' ');
  const share =
    numberIn(quota) / numberIn(period) ||
    numberIn(read(posix.join(directory, 'cpu.cfs_quota_us'))) /
      numberIn(read(posix.join(directory, 'cpu.cfs_period_us')));
  return share > 0 ? Math.ceil(share) : Infinity;
}

function memoryOf(directory: string, read: ReadText): number {
  const limits = ['memory.max', 'memory.limit_in_bytes'].map((name) => numberIn(read(posix.join(directory, name))));
  return Math.min(...limits.map((limit) => (limit > 0 ? limit : Infinity)));
}

/** A whole number above zero, else NaN: `max` and `-1` are no limit. */
const numberIn = (text: string | null | undefined): number =>
  /^[1-9]\d*$/u.test(text?.trim() ?? '') ? Number(text) : NaN;
