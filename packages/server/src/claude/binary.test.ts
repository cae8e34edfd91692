import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { reachableBinary } from './binary.ts';
import { freshDirectory, isRoot } from './jail-support.ts';
import { createUsers } from './slots.ts';

test(
  'a binary that the users of processes cannot reach gets a name in the run directory',
  { skip: !isRoot },
  async (t) => {
    const base = await freshDirectory(t);
    const closed = join(base, 'closed');
    await mkdir(closed, { mode: 0o700 });
    const binary = join(closed, 'claude');
    await writeFile(binary, '#!/bin/sh\nid -u\n');
    const run = (path: string) => execFileSync(path, { uid: 12345, gid: 12345, cwd: '/', encoding: 'utf8' });
    for (const mode of [0o755, 0o700]) {
      await chmod(binary, mode);
      const reachable = await reachableBinary(binary, base, createUsers(base));
      assert.equal(reachable, join(base, 'claude'));
      assert.equal(run(reachable), '12345\n');
    }
    await chmod(closed, 0o755);
    await chmod(binary, 0o755);
    assert.equal(await reachableBinary(binary, base, createUsers(base)), binary);
    assert.equal(await reachableBinary(binary, base, null), binary);
  },
);
