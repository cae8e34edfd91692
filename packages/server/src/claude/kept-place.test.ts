import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { freshDirectory } from './jail-support.ts';
import { createKeptFiles, keptName } from './kept-files.ts';
import { openKeptPlace } from './kept-place.ts';
import { createWorkspaceFiles } from './workspace-files.ts';

/** What nodes agree on: the first name that was told. */
function agreement() {
  let name: string | null = null;
  return async (told: string | null) => (name ??= told);
}

async function aPlace(t: TestContext) {
  const base = await freshDirectory(t);
  const directory = join(base, 'kept');
  await mkdir(directory);
  return { base, directory, agreed: agreement() };
}

/** What is there when the file system is not: the directory that it was mounted on. */
async function unmount(directory: string): Promise<void> {
  await rename(directory, `${directory}.away`);
  await mkdir(directory);
}

async function mountAgain(directory: string): Promise<void> {
  await rm(directory, { recursive: true });
  await rename(`${directory}.away`, directory);
}

test('a directory is named once, whoever comes first, and is known again by its name', async (t) => {
  const { directory, agreed } = await aPlace(t);
  const places = await Promise.all([1, 2, 3].map(() => openKeptPlace(directory, agreed)));
  assert.deepEqual(await readdir(directory), ['place']);
  assert.equal((await readFile(join(directory, 'place'), 'utf8')).trim(), await agreed(null));
  for (const place of [...places, await openKeptPlace(directory, agreed)]) {
    await place.check();
    assert.equal(await place.works(), true);
  }
});

test('another directory than that of the other nodes is refused at the start, and left as it is', async (t) => {
  const { base, directory, agreed } = await aPlace(t);
  await openKeptPlace(directory, agreed);
  const other = join(base, 'other');
  await mkdir(other);
  await assert.rejects(openKeptPlace(other, agreed), /are not in .*other: is its file system mounted/u);
  assert.deepEqual(await readdir(other), []);
  await openKeptPlace(other, agreement());
  await assert.rejects(openKeptPlace(other, agreed), /whose file .*other\/place says node-/u);
  const file = join(other, 'place');
  await writeFile(file, `${await agreed(null)}\n`);
  await openKeptPlace(other, agreed);
});

test('while the file system is gone nothing is read, kept or deleted, and all is there when it is back', async (t) => {
  const { base, directory, agreed } = await aPlace(t);
  const keptPlace = await openKeptPlace(directory, agreed);
  const kept = createKeptFiles(directory, keptPlace);
  const files = createWorkspaceFiles({ keptDir: directory, keptPlace });
  const of = { tenant: 'acme', session: 'one', projectPath: null };
  const [name, slot, next] = [keptName('acme', 'one'), join(base, 'slot'), join(base, 'next')];
  for (const each of [slot, next]) await mkdir(each);
  await writeFile(join(slot, 'a'), 'one');
  await kept.keep({ name, epoch: 1 }, slot);
  await unmount(directory);
  for (const work of [
    () => kept.restore({ name, epoch: 1 }, next, null),
    () => kept.begin({ name, epoch: 2 }),
    () => kept.keep({ name, epoch: 2 }, slot),
    () => kept.isWhole(name),
    () => kept.copy(name, keptName('acme', 'other')),
    () => kept.forget(name),
    () => files.list(of, 10),
    () => files.open(of, 'a'),
  ]) {
    await assert.rejects(work(), { code: 'not_ready', retryable: true });
  }
  assert.equal(await keptPlace.works(), false);
  assert.deepEqual([await readdir(directory), await readdir(next)], [[], []]);
  await rm(directory, { recursive: true });
  await assert.rejects(kept.begin({ name, epoch: 2 }), { code: 'not_ready' });
  await mkdir(directory);
  await mountAgain(directory);
  assert.equal(await keptPlace.works(), true);
  await kept.restore({ name, epoch: 1 }, next, null);
  assert.equal(await readFile(join(next, 'a'), 'utf8'), 'one');
});
