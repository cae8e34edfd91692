import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { adminKey } from './admin-key.ts';

test('the first start makes a key that only its owner can read, and later starts find it', async (context) => {
  const directory = await mkdtemp(join(tmpdir(), 'sallyport-key-'));
  context.after(() => rm(directory, { recursive: true, force: true }));
  const first = await adminKey(directory);
  assert.equal(first.fresh, true);
  assert.equal((await stat(first.path)).mode & 0o777, 0o600);
  assert.deepEqual(await adminKey(directory), { ...first, fresh: false });
});

test('a key file that others can read, or that holds no key, is refused in one line', async (context) => {
  const directory = await mkdtemp(join(tmpdir(), 'sallyport-key-'));
  context.after(() => rm(directory, { recursive: true, force: true }));
  const { path } = await adminKey(directory);
  await chmod(path, 0o644);
  await assert.rejects(adminKey(directory), /can be read by others/u);
  await writeFile(path, '');
  await chmod(path, 0o600);
  await assert.rejects(adminKey(directory), /does not hold a key/u);
});
