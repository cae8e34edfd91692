import { chmod, copyFile, link, rm } from 'node:fs/promises';
import { constants } from 'node:fs';
import { join } from 'node:path';
import { mayRun, type Users } from './slots.ts';

/**
 * A path at which the users of this server's processes can run Claude Code without walls: the binary's own, or, below a
 * directory closed to them (a clone under /root), a second name of it in the run directory, or a copy where that is
 * another file system.
 */
export async function reachableBinary(binary: string, runDir: string, users: Users | null): Promise<string> {
  if (users === null) return binary;
  const user = users.take();
  try {
    if (await mayRun(user, binary)) return binary;
    const reachable = join(runDir, 'claude');
    await rm(reachable, { force: true });
    await link(binary, reachable).catch(() => {});
    if (await mayRun(user, reachable)) return reachable;
    await rm(reachable, { force: true });
    await copyFile(binary, reachable, constants.COPYFILE_FICLONE);
    await chmod(reachable, 0o755);
    return reachable;
  } finally {
    users.free(user);
  }
}
