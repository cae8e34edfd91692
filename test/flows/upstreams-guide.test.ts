import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readFile, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { startSimulator } from '@sallyport/simulator';
import { until } from '../support/runs.ts';
import { query, startProgram, unlimited, type Program } from '../support/service.ts';

const repository = join(import.meta.dirname, '../..');
const main = join(repository, 'packages/server/src/main.ts');
const guide = await readFile(join(repository, 'docs/guide/upstreams.md'), 'utf8');
const blocks = [...guide.matchAll(/^```sh\n(.*?)^```/gmsu)].map(([, block = '']) => block);

test(
  'every command of the guide to upstreams works as it stands, and the keys it puts in force are used',
  { timeout: 120_000 },
  async (context) => {
    const directory = await realpath(await mkdtemp(join(tmpdir(), 'sp-guide-')));
    await chmod(directory, 0o755); // The jail's user has to be able to enter it.
    const simulator = await startSimulator({ script: { steps: [{ text: 'Here.' }] } });
    let program: Program | null = null;
    context.after(async () => {
      program?.signal('SIGTERM');
      await program?.exited;
      await simulator.close();
      await rm(directory, { recursive: true, force: true });
    });
    const runDir = join(directory, 'run');
    let url = '';
    const shell = async (script: string) => {
      const here = script
        .replaceAll('http://127.0.0.1:8000', url)
        .replaceAll('https://api.anthropic.com', simulator.url)
        .replaceAll('npm run -s sallyport --', `'${process.execPath}' '${main}'`);
      const env = { PATH: process.env['PATH'], SALLYPORT_RUN_DIR: runDir };
      const done = await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', here], { cwd: directory, env });
      return done.stdout + done.stderr;
    };
    const [files = '', look = '', change = '', health = '', ...rest] = blocks;
    assert.deepEqual(rest, []);
    await shell(files);
    const shown = await shell(look);
    assert.match(shown, /SALLYPORT_UPSTREAMS = set/u);
    assert.match(shown, /SALLYPORT_UPSTREAM = anthropic/u);
    assert.ok(!shown.includes('sk-'));

    program = await startProgram(
      {
        ...unlimited,
        SALLYPORT_PORT: '0',
        SALLYPORT_RUN_DIR: runDir,
        SALLYPORT_UPSTREAMS_FILE: 'upstreams.json',
      },
      directory,
    );
    ({ url } = program);
    const key = (await readFile(join(directory, 'data/admin-key'), 'utf8')).trim();
    const ask = async () => {
      const { status } = await query({ url }, { prompt: 'Hello', timeout: 100 }, { key });
      assert.equal(status, 200);
      return String(simulator.requests.at(-1)?.headers['x-api-key']);
    };
    assert.match(await ask(), /^sk-ant-of-the-(first|second)-account$/u);
    await shell(change);
    const output = program.output;
    await until(() => output().includes('upstreams have changed'));
    assert.match(await ask(), /^sk-ant-of-the-(second|third)-account$/u);
    assert.match(await shell(health), /"status":"healthy"/u);
    assert.ok(!output().includes('sk-ant-of'));
  },
);
