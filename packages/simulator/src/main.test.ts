import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { ask, content, send } from '../test/raw-client.ts';

let directory: string;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'simulator-main-'));
});
after(() => rm(directory, { recursive: true, force: true }));

const program = join(import.meta.dirname, 'main.ts');

function start(...args: string[]) {
  const child = spawn(process.execPath, [program, ...args], { env: {}, stdio: ['ignore', 'pipe', 'pipe'] });
  const output = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => (output.stdout += chunk));
  child.stderr.on('data', (chunk) => (output.stderr += chunk));
  const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, ...output }));
  return { child, ended };
}

async function file(name: string, text: string): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, text);
  return path;
}

test('it prints its address in one line, plays the script, and stops on a signal', async () => {
  const script = await file('good.json', '{"steps": [{"text": "from the file"}]}');
  const { child, ended } = start('--script', script, '--port', '0', '--host', '127.0.0.1');
  try {
    const [url] = (await once(createInterface(child.stdout), 'line')) as [string];
    assert.match(url, /^http:\/\/127\.0\.0\.1:\d+$/);
    assert.equal(content((await send(url, ask('hello')).done).body), 'from the file');
    child.kill('SIGTERM');
    assert.deepEqual(await ended, { code: 0, stdout: `${url}\n`, stderr: '' });
  } finally {
    child.kill('SIGKILL');
  }
});

test('without a script the demo brain answers', async () => {
  const { child, ended } = start();
  try {
    const [url] = (await once(createInterface(child.stdout), 'line')) as [string];
    assert.match(content((await send(url, ask('hello')).done).body), /simulated model, not Claude/);
    child.kill('SIGINT');
    assert.equal((await ended).code, 0);
  } finally {
    child.kill('SIGKILL');
  }
});

test('help goes to stdout', async () => {
  const { code, stdout, stderr } = await start('--help').ended;
  assert.equal(code, 0);
  assert.match(stdout, /^Usage: sallyport-simulator .*--script/);
  assert.equal(stderr, '');
});

test('a script that cannot be used stops the start with one line and code 1', async () => {
  const cases: [string, RegExp][] = [
    [join(directory, 'missing.json'), /missing\.json: ENOENT/],
    [await file('broken.json', '{"steps": [\n'), /broken\.json: .*JSON/],
    [await file('wrong.json', '[{"txt": 1}]'), /wrong\.json: script\.steps\[0\]\.txt is not known/],
  ];
  for (const [path, message] of cases) {
    const { code, stdout, stderr } = await start('--script', path).ended;
    assert.equal(code, 1);
    assert.equal(stdout, '');
    assert.match(stderr, /^sallyport-simulator: cannot use the script [^\n]+\n$/);
    assert.match(stderr, message);
  }
});

test('wrong usage is told in one line with code 2, a port in use with code 1', async () => {
  for (const args of [['--prot', '1'], ['--port', '99999'], ['--port', 'x'], ['extra']]) {
    const { code, stderr } = await start(...args).ended;
    assert.equal(code, 2);
    assert.match(stderr, /^sallyport-simulator: [^\n]+\n$/);
  }
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const { code, stderr } = await start('--port', String((taken.address() as AddressInfo).port)).ended;
  taken.close();
  assert.equal(code, 1);
  assert.match(stderr, /^sallyport-simulator: listen EADDRINUSE[^\n]+\n$/);
});
