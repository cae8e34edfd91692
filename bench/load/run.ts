import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Load, Loaded } from './spec.ts';

/** Has a process of its own ask a service, and gives what it counted. Rejects when that process fails. */
export async function runLoad(load: Load): Promise<Loaded> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'main.ts')], {
    env: { PATH: process.env['PATH'] },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  const exited = once(child, 'exit') as Promise<[number | null]>;
  child.stdin.end(JSON.stringify(load));
  const output = await text(child.stdout);
  const [code] = await exited;
  process.off('exit', kill);
  if (code !== 0) throw new Error(`the program that asks ended with ${code}`);
  return JSON.parse(output) as Loaded;
}
