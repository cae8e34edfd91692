import { readFileSync } from 'node:fs';

/** Bytes of a page of memory, in which the system counts what is resident. All kernels that the CLI runs on have it. */
const pageBytes = 4096;

/** A process and all below it, parents first. Empty where the system does not tell, or the process is gone. */
export function pidsBelow(pid: number): number[] {
  const children = readOrNull(`/proc/${pid}/task/${pid}/children`);
  if (children === null) return [];
  const below = children.split(' ').filter((each) => each.trim() !== '');
  return [pid, ...below.flatMap((each) => pidsBelow(Number(each)))];
}

/** What the processes have resident, in bytes; what they share counts for each. */
export function memoryOf(pids: readonly number[]): number {
  const pages = pids.map((pid) => Number(readOrNull(`/proc/${pid}/statm`)?.split(' ')[1] ?? 0));
  return pages.reduce((sum, each) => sum + each, 0) * pageBytes;
}

function readOrNull(path: string): string | null {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return null;
  }
}
