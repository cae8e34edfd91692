import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readFile, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { startProgram, unlimited } from '../support/service.ts';

const repository = join(import.meta.dirname, '../..');
const main = join(repository, 'packages/server/src/main.ts');
const guide = await readFile(join(repository, 'docs/guide/keys.md'), 'utf8');
const blocks = [...guide.matchAll(/^```sh\n(.*?)^```/gmsu)].map(([, block = '']) => block);

test(
  'every command of the guide to keys works as it stands, one after the other',
  { timeout: 120_000 },
  async (context) => {
    const directory = await realpath(await mkdtemp(join(tmpdir(), 'sp-guide-')));
    await chmod(directory, 0o755); // The jail's user has to be able to enter it.
    const program = await startProgram(
      { ...unlimited, SALLYPORT_PORT: '0', SALLYPORT_RUN_DIR: join(directory, 'run') },
      directory,
    );
    context.after(async () => {
      program.signal('SIGTERM');
      await program.exited;
      await rm(directory, { recursive: true, force: true });
    });
    const { port } = new URL(program.url);
    const shell = async (script: string) => {
      const here = script
        .replaceAll('http://127.0.0.1:8000', program.url)
        .replaceAll('npm run -s sallyport --', `'${process.execPath}' '${main}'`);
      const env = { PATH: process.env['PATH'], SALLYPORT_PORT: port };
      const done = await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', here], { cwd: directory, env });
      return done.stdout + done.stderr;
    };
    const [variables = ''] = blocks.filter((block) => block.startsWith('api='));
    const settings = variables.split('\n').slice(0, 3).join('\n');
    const shown: string[] = [];
    for (const block of blocks) shown.push(await shell(`${settings}\n${block}`));
    const [made = '', byRoute = '', changed = '', budgets = '', stopped = '', audit = ''] = shown;
    assert.match(made, /^sallyport_[\w-]{43}$/mu);
    assert.match(made, /web.*user/u);
    assert.match(byRoute, /"name":"desk","role":"operator".*"secret":"sallyport_/u);
    assert.match(byRoute, /"permission_modes":\["readOnly"\]/u);
    assert.equal(changed.match(/^sallyport_[\w-]{43}$/gmu)?.length, 1);
    assert.match(changed, /revoked/u);
    assert.match(budgets, /"total_cost_usd":0/u);
    assert.match(stopped, /a drill/u);
    assert.match(audit, /is whole/u);
    const actions = (await readFile(join(directory, 'audit.jsonl'), 'utf8')).trim().split('\n');
    const told = actions.map((line) => (JSON.parse(line) as { action: string }).action);
    for (const action of ['tenant.create', 'key.create', 'key.change', 'key.rotate', 'key.revoke', 'tenant.budgets']) {
      assert.ok(told.includes(action), action);
    }
    assert.deepEqual(
      told.filter((action) => action.startsWith('stop.')),
      ['stop.add', 'stop.lift'],
    );
  },
);
