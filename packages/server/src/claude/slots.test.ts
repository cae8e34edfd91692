import assert from 'node:assert/strict';
import { chmod, chown, mkdir, readdir, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { SallyportError } from '../engine/errors.ts';
import { freshDirectory, isRoot } from './jail-support.ts';
import {
  createUsers,
  defaultRunDirectory,
  deleteTree,
  isProtected,
  makePlace,
  mayUse,
  prepareRunDirectory,
  removeRunDirectory,
} from './slots.ts';

const notReady = (why: RegExp) => (error: unknown) =>
  error instanceof SallyportError && error.code === 'not_ready' && why.test((error.cause as Error).message);

test('the run directory can be passed by all, read by none but us, and is taken again', async (t) => {
  const path = join(await freshDirectory(t), 'run');
  const first = await prepareRunDirectory(path);
  assert.deepEqual(await prepareRunDirectory(path), first);
  assert.equal(first.brokerSocket, join(path, 'broker/api.sock'));
  for (const each of [path, ...(await readdir(path)).map((name) => join(path, name))]) {
    assert.equal((await stat(each)).mode & 0o777, 0o711, each);
  }
});

test('a run directory is deleted at the end, unless something is left in it', async (t) => {
  const base = await freshDirectory(t);
  for (const [name, left] of [
    ['empty', false],
    ['full', true],
  ] as const) {
    const { path } = await prepareRunDirectory(join(base, name));
    await writeFile(join(path, 'stage/file-1'), '');
    if (left) await mkdir(join(path, 'jails/proc-1'));
    await removeRunDirectory(path);
  }
  assert.deepEqual(await readdir(base, { recursive: true }), ['full', 'full/jails', 'full/jails/proc-1']);
});

test('a run directory that is a link, a file, somebody else’s or too long for a socket is refused', async (t) => {
  const base = await freshDirectory(t);
  await mkdir(join(base, 'real'));
  await symlink(join(base, 'real'), join(base, 'link'));
  await writeFile(join(base, 'file'), '');
  await assert.rejects(prepareRunDirectory(join(base, 'link')), notReady(/not a directory/));
  await assert.rejects(prepareRunDirectory(join(base, 'file')), notReady(/not a directory/));
  await assert.rejects(prepareRunDirectory(join(base, 'x'.repeat(90))), notReady(/too long/));
  await assert.rejects(prepareRunDirectory('run'), notReady(/absolute/));
  await mkdir(join(base, 'inner'));
  await symlink(join(base, 'real'), join(base, 'inner', 'jails'));
  await assert.rejects(prepareRunDirectory(join(base, 'inner')), notReady(/not a directory/));
  if (!isRoot) return;
  await mkdir(join(base, 'other'));
  await chown(join(base, 'other'), 12345, 12345);
  await assert.rejects(prepareRunDirectory(join(base, 'other')), notReady(/another user/));
});

test('the default run directory depends on the user and the data directory, and leaves room for a socket', () => {
  const one = defaultRunDirectory('/tmp', '/srv/one/data');
  assert.match(one, /^\/tmp\/sallyport-\d+-[0-9a-f]{8}$/);
  assert.notEqual(one, defaultRunDirectory('/tmp', '/srv/two/data'));
});

test('protected are the service’s directories, what is in them and the system’s roots, not what looks alike', () => {
  const own = ['/srv/app/data', '/tmp/sallyport-0-1'];
  for (const path of [
    '/srv/app/data',
    '/srv/app/data/x/y',
    '/tmp/sallyport-0-1/jails',
    '/',
    '/tmp',
    '/proc/1',
    '/dev',
    '/sys/x',
    '/.sallyport',
  ]) {
    assert.equal(isProtected(path, own), true, path);
  }
  for (const path of ['/srv/app', '/srv/app/data2', '/srv/app/data..x', '/tmp/x', '/process', '/home/a']) {
    assert.equal(isProtected(path, own), false, path);
  }
});

test('users are handed out once, not soon again, and never without end', { skip: !isRoot }, () => {
  const users = createUsers('/run/one')!;
  const all = Array.from({ length: 1000 }, () => users.take().uid);
  assert.equal(new Set(all).size, 1000);
  assert.ok(all.every((uid) => uid > 65_536 || (uid >= 50_000 && uid < 60_000)));
  assert.throws(
    () => users.take(),
    (error: unknown) => error instanceof SallyportError && error.code === 'overloaded',
  );
  users.free({ uid: all[7]!, gid: all[7]! });
  assert.equal(users.take().uid, all[7]);
  const fresh = createUsers('/run/one')!;
  const first = fresh.take();
  fresh.free(first);
  assert.notEqual(fresh.take().uid, first.uid);
  assert.notEqual(createUsers('/run/two')!.take().uid, first.uid);
});

test('a place is open to nobody but its user', async (t) => {
  const { path } = await prepareRunDirectory(join(await freshDirectory(t), 'run'));
  const user = isRoot ? { uid: 12345, gid: 12345 } : null;
  const place = await makePlace(path, 'proc-1', user);
  for (const each of [place.config, place.slot, place.home, place.temporary]) {
    const { mode, uid } = await stat(each);
    assert.deepEqual({ mode: mode & 0o777, uid }, { mode: 0o700, uid: user?.uid ?? process.getuid!() });
  }
  assert.equal((await stat(place.directory)).mode & 0o777, 0o711);
  await assert.rejects(makePlace(path, 'proc-1', user), { code: 'EEXIST' });
});

test('whether a user may use a directory is tried, with or without its parents', { skip: !isRoot }, async (t) => {
  const user = { uid: 12345, gid: 12345 };
  const closed = await freshDirectory(t);
  await chmod(closed, 0o700);
  const inner = join(closed, 'inner');
  await mkdir(inner, { mode: 0o755 });
  const may = (access: 'ro' | 'rw', parents: boolean) => mayUse(user, inner, { access, parents });
  assert.deepEqual([await may('ro', false), await may('ro', true), await may('rw', false)], [true, false, false]);
  await chown(inner, 12345, 12345);
  assert.deepEqual([await may('rw', false), await may('rw', true)], [true, false]);
  await chmod(closed, 0o711);
  assert.equal(await may('rw', true), true);
  assert.equal(await mayUse(user, join(inner, 'absent'), { access: 'ro', parents: false }), false);
  assert.equal(await mayUse(user, '/etc/passwd', { access: 'ro', parents: true }), false);
});

test('a tree is deleted where its directories are closed, and nothing behind its links', async (t) => {
  const base = await freshDirectory(t);
  const [tree, outside] = [join(base, 'tree'), join(base, 'outside')];
  await mkdir(outside);
  await writeFile(join(outside, 'kept'), 'x');
  await mkdir(join(tree, 'a/b'), { recursive: true });
  await writeFile(join(tree, 'a/b/file'), 'x');
  await symlink(outside, join(tree, 'a/link'));
  await chmod(join(tree, 'a/b'), 0);
  await chmod(join(tree, 'a'), 0);
  await deleteTree(tree);
  await deleteTree(tree);
  assert.deepEqual(await readdir(base), ['outside']);
  assert.deepEqual(await readdir(outside), ['kept']);
});
