import type { ChildProcess } from 'node:child_process';

/**
 * Lists files and links below the working directory with size, time of change and time of status change. The working
 * directory itself comes first, with an empty path: proof that the walk began.
 */
export const stampsCommand: readonly string[] = [
  ...'find . -xdev -path */.git/objects -prune -o ( -path . -o -type f -o -type l ) -printf'.split(' '),
  '%P\\0%s:%T@:%C@\\0',
];

const milliseconds = 5_000;
/** Longest path and stamp that are taken on average, in bytes. */
const bytesPerFile = 512;

/**
 * Reads what `stampsCommand` prints. Null when it fails, takes too long or lists more than `limit` files; it is killed
 * then. Directories that the user of the jail may not read are left out.
 */
export function readStamps(child: ChildProcess, limit: number): Promise<ReadonlyMap<string, string> | null> {
  const stamps = new Map<string, string>();
  let rest = Buffer.alloc(0);
  let bytes = 0;
  return new Promise((resolve) => {
    const settle = (value: ReadonlyMap<string, string> | null) => {
      clearTimeout(timer);
      child.stdout?.destroy();
      if (value === null) child.kill('SIGKILL');
      resolve(value);
    };
    const timer = setTimeout(() => settle(null), milliseconds);
    child.stdout?.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      rest = Buffer.concat([rest, chunk]);
      rest = take(rest, stamps);
      if (stamps.size - 1 > limit || bytes > limit * bytesPerFile) settle(null);
    });
    child.once('error', () => settle(null));
    // 1: some directories could not be read, or files went away meanwhile.
    child.once('close', (code) => {
      settle((code === 0 || code === 1) && rest.length === 0 && stamps.delete('') ? stamps : null);
    });
  });
}

/** Moves whole pairs of path and stamp into the map and gives what is left. */
function take(buffer: Buffer, stamps: Map<string, string>): Buffer<ArrayBuffer> {
  let from = 0;
  for (;;) {
    const path = buffer.indexOf(0, from);
    const stamp = path === -1 ? -1 : buffer.indexOf(0, path + 1);
    if (stamp === -1) return Buffer.from(buffer.subarray(from));
    stamps.set(buffer.toString('utf8', from, path), buffer.toString('latin1', path + 1, stamp));
    from = stamp + 1;
  }
}
