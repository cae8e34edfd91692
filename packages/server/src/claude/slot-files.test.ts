import assert from 'node:assert/strict';
import { link, mkdir, readFile, readdir, rename, stat, symlink, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { SallyportError } from '../engine/errors.ts';
import { freshDirectory, isRoot } from './jail-support.ts';
import { writeFilesBelow } from './slot-files.ts';

async function made(t: TestContext) {
  const base = await freshDirectory(t);
  const [root, outside] = [join(base, 'slot'), join(base, 'outside')];
  await mkdir(root);
  await mkdir(outside);
  await writeFile(join(outside, 'secret'), 'untouched');
  return { root, outside };
}

const refused = (code: string) => (error: unknown) => error instanceof SallyportError && error.code === code;

test('files are written with their directories, replace what was there, and belong to the user', async (t) => {
  const { root } = await made(t);
  const user = isRoot ? { uid: 12345, gid: 12346 } : null;
  await writeFilesBelow(
    root,
    [
      { path: 'a/b/c.txt', content: 'one' },
      { path: 'top', content: '' },
      { path: 'a/b/c.txt', content: 'zwei €' },
    ],
    user,
  );
  assert.equal(await readFile(join(root, 'a/b/c.txt'), 'utf8'), 'zwei €');
  for (const path of ['a', 'a/b', 'a/b/c.txt', 'top']) {
    const { uid, gid } = await stat(join(root, path));
    assert.deepEqual({ uid, gid }, user ?? { uid: process.getuid!(), gid: (await stat(root)).gid });
  }
});

test('a link in the way is never followed: not as a directory, not as a file', async (t) => {
  const { root, outside } = await made(t);
  await symlink(outside, join(root, 'dir'));
  await symlink(join(outside, 'secret'), join(root, 'file'));
  await symlink(join(outside, 'absent'), join(root, 'dangling'));
  for (const path of ['dir/secret', 'dir/new', 'dir/deep/new']) {
    await assert.rejects(
      writeFilesBelow(root, [{ path, content: 'evil' }], null),
      refused('workspace_not_accessible'),
      path,
    );
  }
  // The link itself is replaced by the file.
  await writeFilesBelow(
    root,
    [
      { path: 'file', content: 'mine' },
      { path: 'dangling', content: 'mine' },
    ],
    null,
  );
  assert.equal(await readFile(join(root, 'file'), 'utf8'), 'mine');
  assert.deepEqual(await readdir(outside), ['secret']);
  assert.equal(await readFile(join(outside, 'secret'), 'utf8'), 'untouched');
});

test('a hard link is replaced, not written through', async (t) => {
  const { root, outside } = await made(t);
  await link(join(outside, 'secret'), join(root, 'hard'));
  await writeFilesBelow(root, [{ path: 'hard', content: 'mine' }], null);
  assert.equal(await readFile(join(outside, 'secret'), 'utf8'), 'untouched');
});

test('paths that are not plainly relative are refused', async (t) => {
  const { root, outside } = await made(t);
  for (const path of ['../outside/secret', '/etc/x', 'a/../../outside/secret', 'a//b', './a', '', 'a/', 'nul\0']) {
    await assert.rejects(writeFilesBelow(root, [{ path, content: 'evil' }], null), refused('validation_failed'), path);
  }
  assert.equal(await readFile(join(outside, 'secret'), 'utf8'), 'untouched');
  assert.deepEqual(await readdir(root), []);
});

test('a full directory or a file in the way is an error of the workspace', async (t) => {
  const { root } = await made(t);
  await mkdir(join(root, 'full/x'), { recursive: true });
  await writeFile(join(root, 'plain'), '');
  for (const path of ['full', 'plain/x']) {
    await assert.rejects(
      writeFilesBelow(root, [{ path, content: '' }], null),
      refused('workspace_not_accessible'),
      path,
    );
  }
});

test('nothing gets out while a directory is swapped for a link again and again', async (t) => {
  const { root, outside } = await made(t);
  const [dir, away] = [join(root, 'dir'), join(root, 'away')];
  await mkdir(dir);
  const writing = new AbortController();
  const swap = async () => {
    while (!writing.signal.aborted) {
      await rename(dir, away).catch(() => {});
      await symlink(outside, dir).catch(() => {});
      await unlink(dir).catch(() => {});
      await rename(away, dir).catch(() => {});
    }
  };
  const swapping = swap();
  for (let round = 0; round < 300; round += 1) {
    await writeFilesBelow(
      root,
      [
        { path: 'dir/deep/secret', content: 'evil' },
        { path: 'dir/secret', content: 'evil' },
      ],
      null,
    ).catch(() => {});
  }
  writing.abort();
  await swapping;
  assert.deepEqual(await readdir(outside), ['secret']);
  assert.equal(await readFile(join(outside, 'secret'), 'utf8'), 'untouched');
});
