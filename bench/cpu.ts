import { readdirSync, readFileSync } from 'node:fs';

/** What the machine counts in: the ticks of /proc/<pid>/stat. */
const msPerTick = 10;

/**
 * Milliseconds of a core that the threads of a process have taken, as exactly as the system knows them. A thread that
 * has ended counts no more; those of Node stay. 0 for a process that is not there.
 */
export function cpuMs(pid: number): number {
  let nanoseconds = 0;
  for (const thread of namesIn(`/proc/${pid}/task`)) {
    const [taken = '0'] = (contentOf(`/proc/${pid}/task/${thread}/schedstat`) ?? '').split(' ');
    nanoseconds += Number(taken);
  }
  return nanoseconds / 1e6;
}

/**
 * Milliseconds of a core that all processes below one have taken, without its own, in ticks of 10 ms. Of those that have
 * ended only what their parents, if these are below it too, have seen the end of.
 */
export function cpuBelowMs(root: number): number {
  const all = namesIn('/proc').filter((name) => /^\d+$/u.test(name));
  const stats = new Map(all.flatMap((pid) => statOf(Number(pid)) ?? []).map((stat) => [stat.pid, stat]));
  const isBelow = (pid: number): boolean => {
    const parent = stats.get(pid)?.parent ?? 0;
    return parent === root || (parent > 1 && isBelow(parent));
  };
  const below = [...stats.values()].filter(({ pid }) => isBelow(pid));
  return below.reduce((sum, { own, ended }) => sum + own + ended, 0);
}

interface Stat {
  readonly pid: number;
  readonly parent: number;
  /** Milliseconds of its own, and of its children that have ended. */
  readonly own: number;
  readonly ended: number;
}

/** What is known of a process; null when it is gone. */
function statOf(pid: number): Stat | null {
  const text = contentOf(`/proc/${pid}/stat`);
  if (text === null) return null;
  // The name, in parentheses, may hold anything. The first field after it is the third.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [parent = 0, user = 0, system = 0, userEnded = 0, systemEnded = 0] = [4, 14, 15, 16, 17].map((field) =>
    Number(fields[field - 3]),
  );
  return { pid, parent, own: (user + system) * msPerTick, ended: (userEnded + systemEnded) * msPerTick };
}

/** Null when it is gone. */
function contentOf(file: string): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return null;
  }
}

/** Empty when it is gone. */
function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
