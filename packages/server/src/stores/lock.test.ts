import { deepStrictEqual, match, ok, strictEqual, throws } from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { aDirectory } from '../testing/directory.ts';
import { takeDataDirectory } from './lock.ts';

const mode = (path: string) => statSync(path).mode & 0o777;

const oneLine = (pattern: RegExp) => (error: Error) => {
  match(error.message, pattern);
  ok(!error.message.includes('\n'));
  return true;
};

test('a second server is told who has the directory, also through another path to it', (t) => {
  const directory = aDirectory(t);
  const taken = takeDataDirectory(join(directory, 'data'));
  symlinkSync(taken.path, join(directory, 'link'));
  const refusal = oneLine(
    new RegExp(`^another server \\(process ${process.pid}\\) already uses the data directory ${taken.path}$`),
  );
  throws(() => takeDataDirectory(taken.path), refusal);
  throws(() => takeDataDirectory(join(directory, 'link')), refusal);
  throws(() => takeDataDirectory(taken.path), refusal);
  taken.release();
  takeDataDirectory(taken.path).release();
});

test('the lock of a killed server is gone, that of a running one is not', async (t) => {
  const directory = aDirectory(t);
  const program = `
    const { takeDataDirectory } = await import(${JSON.stringify(join(import.meta.dirname, 'lock.ts'))});
    takeDataDirectory(${JSON.stringify(directory)});
    try { takeDataDirectory(${JSON.stringify(directory)}) } catch { /* refused, and the lock still held */ }
    process.stdout.write('taken');
    setInterval(() => {}, 1000);
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {},
  });
  const exited = once(child, 'exit');
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  throws(() => takeDataDirectory(directory), oneLine(new RegExp(`^another server \\(process ${child.pid}\\) `)));
  child.kill('SIGKILL');
  await exited;
  takeDataDirectory(directory).release();
});

test('a missing directory is made for its owner alone', (t) => {
  const directory = join(aDirectory(t), 'a', 'b');
  const taken = takeDataDirectory(directory);
  strictEqual(mode(directory), 0o700);
  strictEqual(taken.database, join(taken.path, 'sallyport.db'));
  taken.release();
});

test('an open directory is closed when it is empty or a data directory, and else refused untouched', (t) => {
  const directory = join(aDirectory(t), 'data');
  mkdirSync(directory);
  chmodSync(directory, 0o755);
  takeDataDirectory(directory).release();
  strictEqual(mode(directory), 0o700);

  chmodSync(directory, 0o750);
  throws(
    () => takeDataDirectory(directory),
    oneLine(/is open to other users \(mode 750\) and holds other files; use /),
  );
  strictEqual(mode(directory), 0o750);
  writeFileSync(join(directory, 'sallyport.db'), '');
  takeDataDirectory(directory).release();
  strictEqual(mode(directory), 0o700);
});

test("an open directory of another user's is refused", { skip: process.getuid?.() !== 0 }, (t) => {
  const directory = join(aDirectory(t), 'data');
  mkdirSync(directory);
  chmodSync(directory, 0o770);
  chownSync(directory, 12345, 12345);
  throws(() => takeDataDirectory(directory), oneLine(/is open to other users \(mode 770\) and belongs to another one/));
  strictEqual(mode(directory), 0o770);
});

test('a path that is no directory is refused in one line', (t) => {
  const file = join(aDirectory(t), 'file');
  writeFileSync(file, '');
  throws(() => takeDataDirectory(file), oneLine(/^cannot use the data directory .*file: /));
  throws(() => takeDataDirectory(join(file, 'below')), oneLine(/^cannot use the data directory .*below: /));
  deepStrictEqual(mode(file) & 0o100, 0);
});
