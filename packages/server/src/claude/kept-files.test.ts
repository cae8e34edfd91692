import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmod,
  link,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { freshDirectory, isRoot, projectUser } from './jail-support.ts';
import { createKeptFiles, keptName } from './kept-files.ts';
import { anyPlace } from './kept-place.ts';
import { deleteTree } from './slots.ts';

const name = keptName('acme', 'conv-1');
const kept1 = { name, epoch: 1 };

async function places(t: TestContext) {
  const base = await freshDirectory(t);
  const [slot, next, keptDir] = [join(base, 'slot'), join(base, 'next'), join(base, 'data/workspaces')];
  await mkdir(slot);
  await mkdir(next);
  return { base, slot, next, keptDir };
}

test('a name tells tenants and conversations apart', () => {
  const names = [keptName('a', 'b'), keptName('ab', ''), keptName('', 'ab'), keptName('b', 'a')];
  assert.equal(new Set(names).size, 4);
  assert.match(names[0]!, /^[0-9a-f]{64}$/);
});

test('files, directories and links come back as they were, and belong to the next user', async (t) => {
  const { slot, next, keptDir, base } = await places(t);
  const kept = createKeptFiles(keptDir);
  await mkdir(join(slot, 'src/empty'), { recursive: true });
  await writeFile(join(slot, 'src/run.sh'), 'run', { mode: 0o755 });
  await writeFile(join(slot, 'closed'), 'closed');
  await chmod(join(slot, 'closed'), 0o4500);
  await utimes(join(slot, 'src/run.sh'), 1000, 2000);
  await symlink('src/run.sh', join(slot, 'link'));
  await writeFile(Buffer.from(`${slot}/caf\xe9`, 'latin1'), 'no text in UTF-8');
  await kept.keep(kept1, slot);
  await kept.restore(kept1, next, isRoot ? projectUser : null);
  assert.deepEqual(
    await readdir(next, { recursive: true, encoding: 'latin1' }),
    await readdir(slot, { recursive: true, encoding: 'latin1' }),
  );
  assert.equal(await readFile(join(next, 'src/run.sh'), 'utf8'), 'run');
  assert.equal(await readlink(join(next, 'link')), 'src/run.sh');
  const { mode, mtimeMs } = await stat(join(next, 'src/run.sh'));
  assert.deepEqual([mode & 0o7777, mtimeMs, (await stat(join(next, 'closed'))).mode & 0o7777], [0o755, 2e6, 0o500]);
  for (const each of ['src', 'src/empty', 'src/run.sh', 'link', 'closed']) {
    assert.equal((await lstat(join(next, each))).uid, projectUser.uid, each);
  }
  assert.equal((await stat(keptDir)).mode & 0o777, 0o700);
  assert.deepEqual(await readdir(keptDir), [name]);
  await kept.forget(name);
  await mkdir(join(base, 'later'));
  await kept.restore(kept1, join(base, 'later'), null);
  assert.deepEqual([await readdir(keptDir), await readdir(join(base, 'later'))], [[], []]);
});

test('what a killed server left is kept where its process had begun and nobody has ended its turn since', async (t) => {
  const { slot, next, keptDir } = await places(t);
  const kept = createKeptFiles(keptDir);
  await writeFile(join(slot, 'a'), 'left');
  const isKept = async () => (await readdir(join(keptDir, name)).catch((): string[] => [])).includes('1');
  await kept.salvage(kept1, slot);
  assert.equal(await isKept(), false, 'not begun');
  for (const end of [() => kept.giveUp(name), () => kept.forget(name), () => kept.keep({ name, epoch: 2 }, next)]) {
    await kept.begin(kept1);
    assert.equal(await kept.isWhole(name), false);
    await end();
    assert.equal(await kept.isWhole(name), true);
    await kept.salvage(kept1, slot);
    assert.equal(await isKept(), false, String(end));
    await kept.forget(name);
  }
  await kept.begin(kept1);
  await kept.salvage(kept1, slot);
  assert.deepEqual([await isKept(), await kept.isWhole(name)], [true, true]);
});

test('what was deleted stays deleted, and the kept copy is nobody else’s', async (t) => {
  const { slot, next, keptDir } = await places(t);
  const kept = createKeptFiles(keptDir);
  await writeFile(join(slot, 'a'), 'one');
  await writeFile(join(slot, 'b'), 'one');
  await kept.keep(kept1, slot);
  await kept.restore(kept1, next, null);
  await writeFile(join(next, 'a'), 'two');
  assert.equal(await readFile(join(keptDir, name, '1/a'), 'utf8'), 'one');
  await rename(join(next, 'b'), join(next, 'c'));
  await kept.keep(kept1, next);
  assert.deepEqual(await readdir(join(keptDir, name, '1')), ['a', 'c']);
  assert.equal(await readFile(join(keptDir, name, '1/a'), 'utf8'), 'two');
});

test('no link is followed, and sockets and pipes are left out', async (t) => {
  const { base, slot, next, keptDir } = await places(t);
  const kept = createKeptFiles(keptDir);
  await writeFile(join(base, 'secret'), 'secret');
  await symlink(base, join(slot, 'directory'));
  await symlink(join(base, 'secret'), join(slot, 'file'));
  await symlink('nowhere', join(slot, 'broken'));
  execFileSync('mkfifo', [join(slot, 'pipe')]);
  const server = createServer().listen(join(slot, 'socket'));
  t.after(() => server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  await kept.keep(kept1, slot);
  await kept.restore(kept1, next, isRoot ? projectUser : null);
  assert.deepEqual(await readdir(next), ['broken', 'directory', 'file']);
  for (const each of await readdir(next)) assert.ok((await lstat(join(next, each))).isSymbolicLink());
  assert.equal((await stat(join(base, 'secret'))).uid, process.getuid!());
  await symlink(base, join(base, 'swapped'));
  await assert.rejects(kept.keep(kept1, join(base, 'swapped')), /not a directory/);
  assert.deepEqual(await readdir(join(keptDir, name, '1')), ['broken', 'directory', 'file']);
});

test('a file of several names is copied for each, so that nobody else’s changes with it', async (t) => {
  const { base, slot, next, keptDir } = await places(t);
  const kept = createKeptFiles(keptDir);
  await writeFile(join(base, 'other'), 'other', { mode: 0o644 });
  await link(join(base, 'other'), join(slot, 'linked'));
  await kept.keep(kept1, slot);
  await kept.restore(kept1, next, isRoot ? projectUser : null);
  const { uid, nlink } = await stat(join(base, 'other'));
  assert.deepEqual([uid, nlink, (await stat(join(next, 'linked'))).nlink], [process.getuid!(), 2, 1]);
});

test('what is too much is not kept, and what was kept before stays', async (t) => {
  const { slot, next, keptDir } = await places(t);
  const kept = createKeptFiles(keptDir, anyPlace, { entries: 3, bytes: 100 });
  await writeFile(join(slot, 'a'), 'kept');
  await kept.keep(kept1, slot);
  await writeFile(join(slot, 'b'), 'x'.repeat(97));
  await assert.rejects(kept.keep(kept1, slot), { code: 'storage_full' });
  await writeFile(join(slot, 'b'), '');
  for (const each of ['c', 'd']) await mkdir(join(slot, each));
  await assert.rejects(kept.keep(kept1, slot), { code: 'storage_full' });
  const deep = 'mkdir -p "$1/deep" && cd "$1/deep" && for i in $(seq 30); do mkdir "$2" && cd -P "$2" || exit 1; done';
  execFileSync('bash', ['-c', deep, 'bash', next, 'd'.repeat(200)]);
  await assert.rejects(createKeptFiles(keptDir).keep(kept1, next), { code: 'storage_full' });
  await deleteTree(next);
  assert.deepEqual(await readdir(keptDir), [name]);
  assert.deepEqual(await readdir(join(keptDir, name, '1')), ['a']);
});

test('a crash at any step of keeping leaves one whole version', async (t) => {
  const { base, slot, keptDir } = await places(t);
  const kept = createKeptFiles(keptDir);
  const at = (suffix: string) => join(keptDir, name, `1${suffix}`);
  const version = async (suffix: string, content: string) => {
    await mkdir(at(suffix), { recursive: true });
    await writeFile(join(at(suffix), 'a'), content);
  };
  const crashes: [string, () => Promise<unknown>, string][] = [
    ['while it was copied', () => version('', 'old').then(() => mkdir(at('.new'))), 'old'],
    ['between the two renames', () => version('.old', 'old').then(() => version('.new', 'new')), 'old'],
    ['before the old was deleted', () => version('', 'new').then(() => version('.old', 'old')), 'new'],
    ['when nothing was kept before', () => mkdir(at('.new'), { recursive: true }), ''],
  ];
  for (const [when, crash, content] of crashes) {
    await crash();
    const target = join(base, when);
    await mkdir(target);
    await kept.restore(kept1, target, null);
    assert.equal(await readFile(join(target, 'a'), 'utf8').catch(() => ''), content, when);
    await writeFile(join(slot, 'a'), 'next');
    await kept.keep(kept1, slot);
    assert.deepEqual([await readdir(keptDir), await readdir(join(keptDir, name))], [[name], ['1']]);
    assert.equal(await readFile(join(keptDir, name, '1/a'), 'utf8'), 'next');
    await kept.forget(name);
  }
});

test('what is kept is copied whole to another name, and neither changes with the other', async (t) => {
  const { slot, next, keptDir } = await places(t);
  const kept = createKeptFiles(keptDir);
  const fork = keptName('acme', 'conv-2');
  await kept.copy(name, fork);
  await mkdir(join(slot, 'src'));
  await writeFile(join(slot, 'src/run.sh'), 'run', { mode: 0o755 });
  await writeFile(join(slot, 'closed'), 'closed', { mode: 0o000 });
  await symlink('/etc', join(slot, 'link'));
  await writeFile(Buffer.from(`${slot}/caf\xe9`, 'latin1'), 'no text in UTF-8');
  await kept.keep(kept1, slot);
  await kept.copy(name, fork);
  assert.deepEqual((await readdir(keptDir)).toSorted(), [name, fork].toSorted());
  await writeFile(join(slot, 'src/run.sh'), 'changed');
  await kept.keep(kept1, slot);
  await kept.restore({ name: fork, epoch: 1 }, next, isRoot ? projectUser : null);
  assert.deepEqual(await readdir(next, { encoding: 'latin1' }), await readdir(slot, { encoding: 'latin1' }));
  assert.equal(await readFile(join(next, 'src/run.sh'), 'utf8'), 'run');
  assert.equal(await readlink(join(next, 'link')), '/etc');
  const { uid, mode } = await stat(join(next, 'src/run.sh'));
  assert.deepEqual([uid, mode & 0o777], [projectUser.uid, 0o755]);
  await kept.forget(name);
  assert.equal(await readFile(join(keptDir, fork, '0/src/run.sh'), 'utf8'), 'run');
});

test('nothing is copied where nothing is kept', async (t) => {
  const { keptDir } = await places(t);
  await createKeptFiles(keptDir).copy(name, keptName('acme', 'conv-2'));
  await assert.rejects(readdir(keptDir), { code: 'ENOENT' });
});

test('a crash while one of the names was kept or copied leaves nothing half done', async (t) => {
  const { slot, keptDir } = await places(t);
  const kept = createKeptFiles(keptDir);
  const fork = keptName('acme', 'conv-2');
  await writeFile(join(slot, 'a'), 'old');
  await kept.keep(kept1, slot);
  await rename(join(keptDir, name, '1'), join(keptDir, name, '1.old'));
  await mkdir(join(keptDir, name, '1.new'));
  await mkdir(join(keptDir, fork, '0.new'), { recursive: true });
  await writeFile(join(keptDir, fork, '0.new/half'), '');
  await kept.copy(name, fork);
  assert.deepEqual((await readdir(keptDir)).toSorted(), [name, fork].toSorted());
  assert.deepEqual(await readdir(join(keptDir, fork, '0')), ['a']);
  assert.equal(await readFile(join(keptDir, fork, '0/a'), 'utf8'), 'old');
});

test('a copy that is too much leaves nothing under the other name', async (t) => {
  const { slot, keptDir } = await places(t);
  await writeFile(join(slot, 'a'), 'x'.repeat(100));
  await createKeptFiles(keptDir).keep(kept1, slot);
  const narrow = createKeptFiles(keptDir, anyPlace, { entries: 3, bytes: 99 });
  await assert.rejects(narrow.copy(name, keptName('acme', 'conv-2')), { code: 'storage_full' });
  assert.deepEqual(await readdir(keptDir), [name]);
});

test('a stale turn neither replaces nor gets the files of a later one', async (t) => {
  const { base, slot, keptDir } = await places(t);
  const kept = createKeptFiles(keptDir);
  const keep = async (epoch: number, content: string) => {
    await writeFile(join(slot, 'a'), content);
    await kept.keep({ name, epoch }, slot);
  };
  const restored = async (epoch: number) => {
    const target = await mkdtemp(join(base, 'restored-'));
    await kept.restore({ name, epoch }, target, null);
    return await readFile(join(target, 'a'), 'utf8').catch(() => null);
  };
  await keep(3, 'first');
  assert.deepEqual([await restored(2), await restored(3), await restored(4)], [null, 'first', 'first']);
  await keep(5, 'taken over');
  await keep(4, 'stale');
  assert.deepEqual([await restored(4), await restored(5), await restored(6)], [null, 'taken over', 'taken over']);
  assert.deepEqual(await readdir(join(keptDir, name)), ['5']);
  await kept.copy(name, keptName('acme', 'conv-2'));
  assert.equal(await readFile(join(keptDir, keptName('acme', 'conv-2'), '0/a'), 'utf8'), 'taken over');
});

test('files are not whole from when a process begins until files are kept of it, or of a later one', async (t) => {
  const { slot, keptDir } = await places(t);
  const kept = createKeptFiles(keptDir);
  assert.equal(await kept.isWhole(name), true);
  for (const [begun, ended] of [
    [1, 1],
    [2, 3],
  ] as const) {
    await kept.begin({ name, epoch: begun });
    assert.equal(await kept.isWhole(name), false);
    await kept.keep({ name, epoch: ended }, slot);
    assert.equal(await kept.isWhole(name), true);
  }
  await kept.begin({ name, epoch: 5 });
  await kept.keep({ name, epoch: 4 }, slot);
  assert.equal(await kept.isWhole(name), false);
});
