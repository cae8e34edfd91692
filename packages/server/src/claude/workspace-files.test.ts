import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  appendFile,
  chmod,
  chown,
  link,
  mkdir,
  readdir,
  symlink,
  truncate,
  unlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { finished } from 'node:stream/promises';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { isRoot, projectUser } from './jail-support.ts';
import { createKeptFiles, keptName } from './kept-files.ts';
import { places } from './workspace-files-support.ts';

test('files are listed in the order of their paths with size and time, and opened by path', async (t) => {
  const { project, files, of, text, paths } = await places(t);
  for (const path of ['a/b', 'a-', 'empty']) await mkdir(join(project, path), { recursive: true });
  for (const path of ['a/b/c', 'a/z', 'a-/x', 'a.txt', 'Z', 'é', '.hidden']) await writeFile(join(project, path), path);
  await utimes(join(project, 'Z'), 1000, 2000.5);
  const all = ['.hidden', 'Z', 'a-/x', 'a.txt', 'a/b/c', 'a/z', 'é'];
  assert.deepEqual(await paths(), [all, false]);
  assert.deepEqual(all.toSorted(), all);
  assert.deepEqual((await files.list(of, 1000)).files[1], { path: 'Z', size: 1, modifiedAt: 2_000_500 });
  for (const path of all) assert.equal(await text(path), path);
  assert.equal((await files.open(of, 'é'))?.content.destroy() && (await files.list(of, 7)).more, false);
  assert.deepEqual(await paths(3), [all.slice(0, 3), true]);
  assert.deepEqual(await paths(0), [[], true]);
});

test('an empty file is opened, a large one comes whole', async (t) => {
  const { project, files, of, text } = await places(t);
  const large = Buffer.alloc(300_001, 'large ');
  await writeFile(join(project, 'empty'), '');
  await writeFile(join(project, 'large'), large);
  assert.equal(await text('empty'), '');
  const found = await files.open(of, 'large');
  assert.ok(found);
  assert.equal(found.size, large.length);
  assert.ok((await buffer(found.content)).equals(large));
});

test('paths that are not plainly relative open nothing', async (t) => {
  const { project, outside, text } = await places(t);
  await mkdir(join(project, 'a'));
  await writeFile(join(project, 'file'), 'inside');
  await mkdir(`${project}-sibling`);
  await writeFile(join(`${project}-sibling`, 'file'), 'sibling');
  const wrong = [
    '',
    '.',
    '..',
    '/',
    '//file',
    './file',
    'a/../file',
    'file/',
    'file/.',
    'a//b',
    'a',
    'file\0',
    'no',
    'no/no',
  ];
  wrong.push('../outside/secret', join(outside, 'secret'), 'a/../../outside/secret', '../project-sibling/file');
  wrong.push('file/x', 'x'.repeat(300), 'a/'.repeat(100_000), `${'x/'.repeat(5000)}x`);
  for (const path of wrong) assert.equal(await text(path), null, path.slice(0, 100));
  assert.equal(await text('file'), 'inside');
});

test('no link is followed: no file, no directory, no part of the project’s own path', async (t) => {
  const { base, project, outside, files, of, text, paths } = await places(t);
  await mkdir(join(project, 'real'));
  await writeFile(join(project, 'real/file'), 'inside');
  await symlink(join(outside, 'secret'), join(project, 'file'));
  await symlink(outside, join(project, 'directory'));
  await symlink('real/file', join(project, 'within'));
  await symlink('loop', join(project, 'loop'));
  await symlink('/proc/self', join(project, 'proc'));
  assert.deepEqual(await paths(), [['real/file'], false]);
  for (const path of ['file', 'directory', 'directory/secret', 'within', 'loop', 'loop/x', 'proc/environ']) {
    assert.equal(await text(path), null, path);
  }
  await symlink(project, join(base, 'tail'));
  await mkdir(join(base, 'parent'));
  await symlink(base, join(base, 'parent/up'));
  for (const projectPath of [
    join(base, 'tail'),
    join(base, 'parent/up/project'),
    `${project}/../project`,
    'project',
    '/',
  ]) {
    await assert.rejects(files.list({ ...of, projectPath }, 10), { code: 'workspace_not_accessible' }, projectPath);
    assert.equal(await files.open({ ...of, projectPath }, 'real/file'), null, projectPath);
  }
});

test('a project that is gone or is a file is not accessible, and opens nothing', async (t) => {
  const { project, outside, files, of } = await places(t);
  for (const projectPath of [join(project, 'gone'), join(outside, 'secret')]) {
    await assert.rejects(files.list({ ...of, projectPath }, 10), { code: 'workspace_not_accessible' });
    assert.equal(await files.open({ ...of, projectPath }, 'secret'), null);
  }
});

test('only regular files are given: no pipe, socket, device or directory, and none of them makes us wait', async (t) => {
  const { project, text, paths } = await places(t);
  await writeFile(join(project, 'file'), 'inside');
  await mkdir(join(project, 'directory'));
  const special = ['pipe', 'socket', 'directory'];
  execFileSync('mkfifo', [join(project, 'pipe')]);
  const server = createServer().listen(join(project, 'socket'));
  t.after(() => server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  try {
    execFileSync('mknod', [join(project, 'device'), 'c', '1', '5'], { stdio: 'ignore' });
    special.push('device');
  } catch {
    t.diagnostic('no device can be made here');
  }
  for (const path of special) assert.equal(await text(path), null, path);
  assert.deepEqual(await paths(), [['file'], false]);
  const devices = { tenant: 'acme', session: 's1', projectPath: '/dev' };
  assert.equal(await text('zero', devices), null);
});

test('a file of several names is a file like others, but none that the project’s owner could not read', async (t) => {
  const { project, outside, text, paths } = await places(t);
  await link(join(outside, 'secret'), join(project, 'open'));
  assert.equal(await text('open'), 'outside');
  if (!isRoot) return;
  await writeFile(join(outside, 'closed'), 'closed', { mode: 0o600 });
  await link(join(outside, 'closed'), join(project, 'closed'));
  for (const { uid, gid } of [{ uid: 0, gid: 0 }, projectUser]) {
    await chown(project, uid, gid);
    assert.equal(await text('closed'), null);
    assert.deepEqual(await paths(), [['open'], false]);
  }
});

test('where we are root, a project gives what its owner may read, and nothing else', { skip: !isRoot }, async (t) => {
  const { project, files, of, text, paths } = await places(t);
  await chown(project, projectUser.uid, projectUser.gid);
  await chmod(project, 0o700);
  const made: [string, number, { uid: number; gid: number }, boolean][] = [
    ['own', 0o600, projectUser, true],
    ['group', 0o040, { uid: 0, gid: projectUser.gid }, true],
    ['everybodys', 0o604, { uid: 0, gid: 0 }, true],
    ['closed', 0o640, { uid: 0, gid: 0 }, false],
    ['own-closed', 0o077, projectUser, false],
    ['own-group-closed', 0o606, { uid: 0, gid: projectUser.gid }, false],
  ];
  for (const [name, mode, { uid, gid }] of made) {
    await writeFile(join(project, name), name);
    await mkdir(join(project, `in-${name}`));
    await writeFile(join(project, `in-${name}/file`), name);
    for (const path of [name, `in-${name}`]) await chown(join(project, path), uid, gid);
    await chmod(join(project, name), mode);
    await chmod(join(project, `in-${name}`), mode | ((mode & 0o444) >> 2));
  }
  const readable = made.filter(([, , , may]) => may).flatMap(([name]) => [name, `in-${name}/file`]);
  assert.deepEqual(await paths(), [readable.toSorted(), false]);
  for (const [name, , , may] of made) {
    assert.equal(await text(name), may ? name : null, name);
    assert.equal(await text(`in-${name}/file`), may ? name : null, name);
  }
  await chmod(project, 0o077);
  await assert.rejects(files.list(of, 10), { code: 'workspace_not_accessible' });
  assert.equal(await text('own'), null);
});

test('what is not listed for its number can be opened', async (t) => {
  const { project, text, paths } = await places(t);
  for (const path of ['.git/refs', 'node_modules/left', 'sub/node_modules', 'sub/.git']) {
    await mkdir(join(project, path), { recursive: true });
    await writeFile(join(project, path, 'file'), path);
  }
  await writeFile(join(project, '.gitignore'), '');
  await mkdir(join(project, 'other'));
  await writeFile(join(project, 'other/node_modules'), 'a file');
  assert.deepEqual(await paths(), [['.gitignore', 'other/node_modules'], false]);
  assert.equal(await text('.git/refs/file'), '.git/refs');
  assert.equal(await text('sub/node_modules/file'), 'sub/node_modules');
});

test('names that are not UTF-8 are left out, odd ones are not', async (t) => {
  const { project, text, paths } = await places(t);
  await writeFile(Buffer.from(`${project}/caf\xe9`, 'latin1'), 'no text');
  await mkdir(Buffer.from(`${project}/\xff`, 'latin1'));
  await writeFile(Buffer.from(`${project}/\xff/file`, 'latin1'), 'no text');
  const odd = ['a\nb', 'a\\b', ' ', '...', '-rf', '%2e', '日本', '😀'];
  for (const name of odd) await writeFile(join(project, name), name);
  assert.deepEqual(await paths(), [odd.toSorted(), false]);
  for (const name of odd) assert.equal(await text(name), name);
  for (const name of ['caf\xe9', 'caf\ufffd', '\ufffd/file', 'caf\ud800']) assert.equal(await text(name), null);
});

test('a huge directory and a deep one are looked at within bounds, and more is said', async (t) => {
  const { project, text, paths } = await places(t);
  for (const path of ['huge', 'z']) await mkdir(join(project, path));
  for (const path of ['top', 'z/file']) await writeFile(join(project, path), 'here');
  // With what is beside them, all that one list looks at.
  execFileSync('bash', ['-c', 'cd "$1" && seq 49996 | xargs mkfifo', 'bash', join(project, 'huge')]);
  assert.deepEqual(await paths(), [['top', 'z/file'], false]);
  await mkdir(join(project, 'huge/one-more'));
  assert.deepEqual(await paths(), [['top'], true]);
  assert.equal(await text('z/file'), 'here');
  const { project: other, paths: otherPaths, text: otherText } = await places(t);
  const way = Array.from({ length: 70 }, (_, index) => `d${index}`);
  await mkdir(join(other, ...way), { recursive: true });
  for (const depth of [62, 63, 64, 70]) await writeFile(join(other, ...way.slice(0, depth), 'file'), '');
  const [deep, deeper] = [62, 63].map((depth) => [...way.slice(0, depth), 'file'].join('/'));
  assert.deepEqual(await otherPaths(), [[deeper, deep], true]);
  assert.equal(await otherText(deeper!), '');
  assert.equal(await otherText([...way.slice(0, 64), 'file'].join('/')), null);
});

test('a file that grows is cut at its size, one that shrinks ends with an error', async (t) => {
  const { project, files, of } = await places(t);
  const path = join(project, 'file');
  await writeFile(path, Buffer.alloc(100_000, 'a'));
  const growing = await files.open(of, 'file');
  await appendFile(path, 'more');
  assert.equal((await buffer(growing!.content)).length, 100_000);
  const shrinking = await files.open(of, 'file');
  assert.equal(shrinking?.size, 100_004);
  await truncate(path, 70_000);
  await assert.rejects(buffer(shrinking.content), /has become shorter/);
  const deleted = await files.open(of, 'file');
  await unlink(path);
  assert.equal((await buffer(deleted!.content)).length, 70_000);
});

test('no descriptor stays open, however a file was left', { skip: process.platform !== 'linux' }, async (t) => {
  const { project, files, of, slot, keptDir, text, paths } = await places(t);
  await mkdir(join(project, 'a/b'), { recursive: true });
  for (const path of ['file', 'a/b/file']) await writeFile(join(project, path), Buffer.alloc(200_000));
  execFileSync('mkfifo', [join(project, 'pipe')]);
  await symlink('a', join(project, 'link'));
  await createKeptFiles(keptDir).keep({ name: keptName('acme', 's1'), epoch: 1 }, project);
  const held = async () => (await readdir('/proc/self/fd')).length;
  const before = await held();
  for (const whose of [of, slot]) {
    for (const limit of [0, 1, 100]) await paths(limit, whose);
    for (const path of ['pipe', 'link/b/file', 'a', 'a/b/none', 'file/x', '..'])
      assert.equal(await text(path, whose), null);
    assert.equal((await text('a/b/file', whose))?.length, 200_000);
    const leave = async (
      left: (content: NonNullable<Awaited<ReturnType<typeof files.open>>>['content']) => unknown,
    ) => {
      const { content } = (await files.open(whose, 'file'))!;
      await Promise.all([finished(content).catch(() => {}), left(content)]);
    };
    await leave((content) => content.destroy());
    await leave((content) => content.destroy(new Error('gone')));
    await leave((content) => content.once('data', () => content.destroy()));
    await leave(async (content) => {
      content.read();
      await delay(1);
      content.destroy();
    });
  }
  await truncate(join(project, 'file'), 100_000);
  const { content } = (await files.open(of, 'file'))!;
  await truncate(join(project, 'file'), 0);
  await assert.rejects(buffer(content));
  await assert.rejects(files.list({ ...of, projectPath: join(project, 'none') }, 1));
  for (let tries = 0; (await held()) > before && tries < 500; tries += 1) await delay(10);
  assert.equal(await held(), before);
});
