import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { TestContext } from 'node:test';

/** Takes `path`, a target outside, and one inside: null where `path` itself is a directory. */
const script = `
const { renameSync, rmSync, symlinkSync, unlinkSync } = require('node:fs');
const [, path, away, outside, inside, pause] = process.argv;
const still = new Int32Array(new SharedArrayBuffer(4));
const wait = () => pause > 0 && Atomics.wait(still, 0, 0, Math.random() * pause);
const turn = inside
  ? () => {
      for (const target of [outside, inside]) {
        symlinkSync(target, away);
        renameSync(away, path);
        wait();
      }
    }
  : () => {
      renameSync(path, away);
      symlinkSync(outside, path);
      wait();
      unlinkSync(path);
      renameSync(away, path);
    };
process.stdout.write('swapping');
for (;;) {
  wait();
  try {
    turn();
  } catch {
    // Somebody made a directory in its place meanwhile.
    rmSync(path, { recursive: true, force: true });
    if (inside) rmSync(away, { force: true });
    else renameSync(away, path);
  }
}`;

/**
 * Puts a link to `outside` in the place of a directory, and the directory back, again and again, in a process of its
 * own; with `inside` it is a link all the time, to the one and to the other in turn. `away` is a path in the same file
 * system that nobody looks at. Each stays for up to `pause` milliseconds. Gives a function that ends it; the end of the test does so, too.
 */
export async function swapping(
  t: TestContext,
  path: string,
  { outside, inside = '', away, pause = 5 }: { outside: string; inside?: string; away: string; pause?: number },
): Promise<() => Promise<void>> {
  const child = spawn(process.execPath, ['-e', script, path, away, outside, inside, String(pause)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  const end = async () => {
    child.kill('SIGKILL');
    await exited;
  };
  t.after(end);
  await once(child.stdout, 'data');
  return end;
}
