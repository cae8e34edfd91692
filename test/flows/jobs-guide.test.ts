import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readFile, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { startProgram, unlimited } from '../support/service.ts';

const guide = await readFile(join(import.meta.dirname, '../../docs/guide/jobs.md'), 'utf8');
const blocks = [...guide.matchAll(/^```sh\n(.*?)^```/gmsu)].map(([, block = '']) => block);

test(
  'every command of the guide to jobs works as it stands, one after the other',
  { timeout: 120_000 },
  async (context) => {
    const directory = await realpath(await mkdtemp(join(tmpdir(), 'sp-guide-')));
    await chmod(directory, 0o755); // The jail's user has to be able to enter it.
    const env = { ...unlimited, SALLYPORT_PORT: '0', SALLYPORT_RUN_DIR: join(directory, 'run') };
    const program = await startProgram(env, directory);
    context.after(async () => {
      program.signal('SIGTERM');
      await program.exited;
      await rm(directory, { recursive: true, force: true });
    });
    const [variables = '', ...commands] = blocks;
    const shell = async (script: string) => {
      const here = `${variables}\n${script}`.replaceAll('http://127.0.0.1:8000', program.url);
      const options = { cwd: directory, env: { PATH: process.env['PATH'] } };
      return (await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', here], options)).stdout;
    };
    const queued = await shell(commands[0] ?? '');
    const cancelled = await shell(commands[1] ?? '');
    assert.equal(commands.length, 2);
    assert.match(queued, /^\{"job_id":"job-[0-9a-f]{32}","status":"queued","priority":7/u);
    assert.match(queued, /"status":"completed","is_complete":true/u);
    assert.match(queued, /^data: \[DONE\]$/mu);
    assert.match(queued, /"success":true/u);
    assert.match(queued, /Buy milk/u);
    assert.match(queued, /\{"items":\[\{"job_id":"job-/u);
    assert.match(cancelled, /"status":"queued".*"status":"cancelled"/su);
  },
);
