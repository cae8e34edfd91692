import assert from 'node:assert/strict';
import { chown, mkdir, rename, symlink, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { projectUser } from './jail-support.ts';
import { createKeptFiles, keptName } from './kept-files.ts';
import { places } from './workspace-files-support.ts';

test('nothing outside is read while files and directories are swapped for links again and again', async (t) => {
  const { base, project, outside, of, files, text } = await places(t);
  await mkdir(join(project, 'dir'));
  for (const path of ['dir/secret', 'file']) await writeFile(join(project, path), 'inside');
  for (const path of ['file', 'only-outside']) await writeFile(join(outside, path), 'outside');
  const opened = ['dir/secret', 'file', 'secret', 'only-outside'];
  const wanted = ['dir/secret', 'file', 'dir/secret: inside', 'file: inside', ...opened.map((path) => `${path}: null`)];
  for (const [path, target] of [
    [join(project, 'dir'), outside],
    [join(project, 'file'), join(outside, 'secret')],
    [project, outside],
  ] as const) {
    const looking = new AbortController();
    const swap = async () => {
      while (!looking.signal.aborted) {
        await rename(path, join(base, 'away'));
        await symlink(target, path);
        await unlink(path);
        await rename(join(base, 'away'), path);
      }
    };
    const seen = new Set<string>();
    const look = async () => {
      for (let round = 0; round < 400; round += 1) {
        for (const each of opened) seen.add(`${each}: ${await text(each)}`);
        const list = await files.list(of, 100).catch(() => null);
        for (const each of list?.files ?? []) seen.add(each.path);
      }
      looking.abort();
    };
    await Promise.all([swap(), look()]);
    // Each was there at times, and at times was not.
    const swapped = path === join(project, 'file') ? 'file' : 'dir/secret';
    for (const each of [': inside', ': null']) assert.ok(seen.has(swapped + each), swapped + each);
    assert.deepEqual(
      [...seen].filter((each) => !wanted.includes(each)),
      [],
    );
  }
});

test('a slot gives what was kept, and only to its own', async (t) => {
  const { base, keptDir, project, slot, text, paths } = await places(t);
  assert.deepEqual([await paths(10, slot), await text('file', slot)], [[[], false], null]);
  await mkdir(join(project, 'a'));
  await writeFile(join(project, 'a/file'), 'kept', { mode: 0o600 });
  await symlink('a/file', join(project, 'link'));
  await chown(join(project, 'a/file'), projectUser.uid, projectUser.gid);
  await createKeptFiles(keptDir).keep({ name: keptName('acme', 's1'), epoch: 1 }, project);
  assert.deepEqual([await paths(10, slot), await text('a/file', slot)], [[['a/file'], false], 'kept']);
  assert.equal(await text('link', slot), null);
  for (const other of [
    { ...slot, tenant: 'other' },
    { ...slot, session: 's2' },
  ]) {
    assert.deepEqual([await paths(10, other), await text('a/file', other)], [[[], false], null]);
  }
  for (const path of ['../outside/secret', `../${keptName('acme', 's1')}/a/file`])
    assert.equal(await text(path, slot), null);
  await rename(keptDir, join(base, 'real'));
  await symlink('real', keptDir);
  assert.equal(await text('a/file', slot), 'kept', 'where the operator put a link');
});

test('after a crash at any step of keeping, the version that counts is read', async (t) => {
  const { keptDir, slot, text, paths } = await places(t);
  const at = join(keptDir, keptName('acme', 's1'), '1');
  const version = async (suffix: string, content: string) => {
    await mkdir(at + suffix, { recursive: true });
    await writeFile(join(at + suffix, content), content);
  };
  await version('.new', 'half');
  assert.deepEqual(await paths(10, slot), [[], false]);
  await version('.old', 'old');
  assert.deepEqual([await paths(10, slot), await text('old', slot)], [[['old'], false], 'old']);
  await version('', 'new');
  assert.deepEqual([await paths(10, slot), await text('new', slot)], [[['new'], false], 'new']);
  assert.equal(await text('old', slot), null);
});

test('while a slot is kept again and again, every file is there and whole', async (t) => {
  const { project, keptDir, slot, files, text, paths } = await places(t);
  const kept = createKeptFiles(keptDir);
  const names = ['a/one', 'b/two', 'three'];
  const write = async (version: number) => {
    for (const name of names) await writeFile(join(project, name), String(version % 10).repeat(70_000 + version));
  };
  for (const path of ['a', 'b']) await mkdir(join(project, path));
  await write(0);
  await kept.keep({ name: keptName('acme', 's1'), epoch: 1 }, project);
  const keeping = new AbortController();
  const keep = async () => {
    for (let version = 1; version <= 150; version += 1) {
      await write(version);
      await kept.keep({ name: keptName('acme', 's1'), epoch: 1 }, project);
    }
    keeping.abort();
  };
  const versions = new Set<number>();
  const read = async () => {
    while (!keeping.signal.aborted) {
      assert.deepEqual(await paths(10, slot), [names.toSorted(), false]);
      for (const name of names) {
        const found = (await text(name, slot)) ?? '';
        const version = found.length - 70_000;
        assert.ok(version >= 0 && found === String(version % 10).repeat(found.length), name);
        versions.add(version);
      }
      assert.equal(await files.open(slot, 'none'), null);
    }
  };
  await Promise.all([keep(), read(), read()]);
  assert.ok(versions.size > 1);
});
