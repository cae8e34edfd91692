import { readdir, readFile } from 'node:fs/promises';

const read = (pid: number, file: string) => readFile(`/proc/${pid}/${file}`, 'latin1').catch(() => '');

/** All processes of this machine. */
async function pids(): Promise<number[]> {
  return (await readdir('/proc')).filter((name) => /^\d+$/u.test(name)).map(Number);
}

/** True while the process runs and its arguments, its environment or what it has mounted name the path. */
export async function names(pid: number, path: string): Promise<boolean> {
  if (/^State:\s+[ZX]/mu.test(await read(pid, 'status'))) return false;
  return (await Promise.all(['cmdline', 'environ', 'mountinfo'].map((file) => read(pid, file))))
    .join('\n')
    .includes(path);
}

/** The processes that name a path, less those that are left out. */
export async function naming(path: string, without: readonly number[]): Promise<number[]> {
  const all = (await pids()).filter((pid) => !without.includes(pid));
  const found = await Promise.all(all.map((pid) => names(pid, path)));
  return all.filter((_, index) => found[index]);
}

/** The processes below one, itself first, as they are now. */
export async function below(pid: number): Promise<number[]> {
  const parents = await Promise.all(
    (await pids()).map(async (each) => {
      const stat = await read(each, 'stat');
      // The name in parentheses may hold anything, so fields are counted after the last one.
      return [each, Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])] as const;
    }),
  );
  const found = [pid];
  for (const each of found) found.push(...parents.flatMap(([child, parent]) => (parent === each ? [child] : [])));
  return found;
}

/** Memory of a process, in MB. */
export async function memoryMb(pid: number): Promise<number> {
  return Number(/^VmRSS:\s+(\d+) kB$/mu.exec(await read(pid, 'status'))?.[1]) / 1e3;
}

/** How many files, sockets and pipes a process has open. */
export async function descriptors(pid: number): Promise<number> {
  return (await readdir(`/proc/${pid}/fd`)).length;
}
