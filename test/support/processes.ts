import { readdir, readFile } from 'node:fs/promises';

/** A process of this machine. */
export interface Found {
  readonly pid: number;
  readonly parent: number;
  /** Arguments with spaces between them. */
  readonly command: string;
}

/** Processes, zombies aside, whose arguments or environment hold the text. */
export async function processesWith(text: string): Promise<Found[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/u.test(name) && Number(name) !== process.pid);
  const found = await Promise.all(pids.map((pid) => look(Number(pid), text)));
  return found.filter((each) => each !== null);
}

async function look(pid: number, text: string): Promise<Found | null> {
  const read = (file: string) => readFile(`/proc/${pid}/${file}`, 'latin1').catch(() => '');
  const status = await read('status');
  if (status === '' || /^State:\s+[ZX]/mu.test(status)) return null;
  const command = (await read('cmdline')).replaceAll('\0', ' ');
  if (!command.includes(text) && !(await read('environ')).includes(text)) return null;
  return { pid, parent: Number(/^PPid:\s+(\d+)/mu.exec(status)?.[1]), command };
}

/** Processes of Claude Code and of what it started that belong to a service, without the programs of the jail around it. */
export async function agentsOf(service: { sallyport: { settings: { runDir: string } } }): Promise<Found[]> {
  const found = await processesWith(service.sallyport.settings.runDir);
  return found.filter(({ command }) => !/^\S*(?:bwrap|setpriv|prlimit) /u.test(command));
}
