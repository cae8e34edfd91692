import assert from 'node:assert/strict';
import { mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { freshDirectory } from './jail-support.ts';
import { expectLitter, LitterBook, sweepLitter } from './litter.ts';

test('only what was not there before, and only what is empty, is deleted', async (t) => {
  const workspace = await freshDirectory(t);
  await writeFile(join(workspace, '.gitmodules'), '');
  const litter = expectLitter(workspace, null);
  for (const name of ['.bashrc', '.mcp.json']) await writeFile(join(workspace, name), '');
  await writeFile(join(workspace, '.zshrc'), 'mine');
  await mkdir(join(workspace, '.claude/.cc-writes'), { recursive: true });
  await writeFile(join(workspace, '.claude/settings.json'), '');
  await writeFile(join(workspace, 'empty.txt'), '');
  await sweepLitter(litter);
  assert.deepEqual((await readdir(workspace)).toSorted(), ['.gitmodules', '.zshrc', 'empty.txt']);
});

test('nothing is deleted through a link, and no link is', async (t) => {
  const workspace = await freshDirectory(t);
  const elsewhere = await freshDirectory(t);
  const litter = expectLitter(workspace, null);
  await writeFile(join(elsewhere, 'settings.json'), '');
  await symlink(elsewhere, join(workspace, '.claude'));
  await symlink(join(elsewhere, 'settings.json'), join(workspace, '.bashrc'));
  await sweepLitter(litter);
  assert.deepEqual(await readdir(elsewhere), ['settings.json']);
  assert.deepEqual((await readdir(workspace)).toSorted(), ['.bashrc', '.claude']);
});

test('of processes that share a workspace the last one sweeps, what none of them found there', async (t) => {
  const workspace = await freshDirectory(t);
  const book = new LitterBook();
  book.enter(workspace, null);
  await writeFile(join(workspace, '.bashrc'), '');
  book.enter(workspace, null);
  await book.leave(workspace);
  assert.deepEqual(await readdir(workspace), ['.bashrc']);
  await book.leave(workspace);
  assert.deepEqual(await readdir(workspace), []);
});

test('a workspace that is gone is no failure', async (t) => {
  const workspace = join(await freshDirectory(t), 'gone');
  await sweepLitter({ workspace, user: null, names: ['.bashrc'] });
});
