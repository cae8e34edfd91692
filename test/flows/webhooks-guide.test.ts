import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { chmod, mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { toLoopback } from '../support/receiver.ts';
import { until } from '../support/runs.ts';
import { startProgram, unlimited } from '../support/service.ts';

const repository = join(import.meta.dirname, '../..');
const main = join(repository, 'packages/server/src/main.ts');
const guide = await readFile(join(repository, 'docs/guide/webhooks.md'), 'utf8');
const blocksOf = (language: string) =>
  [...guide.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, 'gmsu'))].map(([, block = '']) => block);

/** Says where a receiver listens, as any free port is taken. */
const tellPort = "function () { console.error('port', this.address().port) }";

test(
  'the receiver of the guide takes what the service signs and nothing else, and every command works as it stands',
  { timeout: 120_000 },
  async (context) => {
    const directory = await realpath(await mkdtemp(join(tmpdir(), 'sp-guide-')));
    await chmod(directory, 0o755); // The jail's user has to be able to enter it.
    const env = { ...unlimited, ...toLoopback, SALLYPORT_PORT: '0', SALLYPORT_RUN_DIR: join(directory, 'run') };
    const program = await startProgram(env, directory);
    context.after(async () => {
      program.signal('SIGTERM');
      await program.exited;
      await rm(directory, { recursive: true, force: true });
    });
    const { port } = new URL(program.url);
    const [code = ''] = blocksOf('js');
    const [rotate = '', queue = '', list = '', again = ''] = blocksOf('sh');
    let receiverUrl = 'http://127.0.0.1:9000';
    const shell = async (script: string) => {
      const here = script
        .replaceAll('http://127.0.0.1:8000', program.url)
        .replaceAll('http://127.0.0.1:9000', receiverUrl)
        .replaceAll('npm run -s sallyport --', `'${process.execPath}' '${main}'`);
      const own = { PATH: process.env['PATH'], SALLYPORT_PORT: port };
      const done = await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', here], { cwd: directory, env: own });
      return done;
    };

    assert.match((await shell(rotate)).stderr, /shown this once/u);
    const secret = (await readFile(join(directory, 'webhook-secret'), 'utf8')).trim();
    assert.match(secret, /^whsec_/u);
    const anyPort = code.replace("listen(9000, '127.0.0.1')", `listen(0, '127.0.0.1', ${tellPort})`);
    assert.notEqual(anyPort, code);
    await writeFile(join(directory, 'receiver.mjs'), anyPort);
    const own = { PATH: process.env['PATH'], WEBHOOK_SECRET: secret };
    const receiver = spawn(process.execPath, ['receiver.mjs'], { cwd: directory, env: own });
    context.after(() => receiver.kill());
    let output = '';
    receiver.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    let told = '';
    receiver.stderr.on('data', (chunk: Buffer) => (told += chunk.toString()));
    await until(() => /^port \d+$/mu.test(told));
    receiverUrl = `http://127.0.0.1:${/\d+/u.exec(told)?.[0]}`;
    const post = (headers: Record<string, string>) => fetch(receiverUrl, { method: 'POST', body: '{}', headers });
    const forged = { 'webhook-id': 'hook-1', 'webhook-signature': `v1,${'A'.repeat(43)}=` };
    const now = String(Math.floor(Date.now() / 1000));
    for (const headers of [{}, { ...forged, 'webhook-timestamp': now }, { ...forged, 'webhook-timestamp': '1' }]) {
      assert.equal((await post(headers)).status, 401);
    }
    assert.equal(output, '');

    const { job_id: id } = JSON.parse((await shell(queue)).stdout) as { job_id: string };
    await until(() => /^hook-[0-9a-f]{32} job\.completed$/mu.test(output));
    let listed = '';
    await until(async () => (listed = (await shell(list)).stdout).includes('delivered'));
    assert.match(listed, new RegExp(`hook-[0-9a-f]{32} +job\\.completed +${id} +delivered +1 +204 .*\\[\\]`, 'su'));
    const shown = await shell(again);
    assert.match(shown.stdout + shown.stderr, /PREVIOUS_UNTIL/u);
    assert.notEqual((await readFile(join(directory, 'webhook-secret'), 'utf8')).trim(), secret);
    const delivery = /^hook-[0-9a-f]{32}/mu.exec(output)?.[0] ?? '';
    await shell(`npm run -s sallyport -- webhooks redeliver ${delivery}`);
    // It knows the old secret only, which signs too.
    await until(() => output.split('\n').filter((line) => line.startsWith(`${delivery} job.completed`)).length === 2);
  },
);
