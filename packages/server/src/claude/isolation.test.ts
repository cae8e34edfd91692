import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { leftOut } from '../../../../test/support/needs.ts';
import { SallyportError } from '../engine/errors.ts';
import { freshDirectory, startJails } from './jail-support.ts';

const openOne = `
  import { prepareRunDirectory } from '${join(import.meta.dirname, 'slots.ts')}';
  import { createJails } from '${join(import.meta.dirname, 'jail.ts')}';
  const [runDir, setting] = process.argv.slice(1);
  const { brokerSocket } = await prepareRunDirectory(runDir);
  const log = { info() {}, warn() {}, error() {} };
  const clock = { now: () => 0, monotonic: () => 0 };
  try {
    const jails = await createJails({ setting, runDir, hidden: [], brokerSocket, claudeBinary: '/bin/sh', clock, log });
    const jail = await jails.open({ projectPath: null, access: 'rw', bash: true });
    console.log(JSON.stringify({ ...jails.isolation, jail: jail.jailed, sandbox: jail.sandbox !== undefined }));
    await jails.close();
  } catch (error) {
    console.log(JSON.stringify({ code: error.code, cause: error.cause.message }));
  }`;

/** What a server finds on a machine that bwrap makes out of this one. */
async function elsewhere(t: TestContext, setting: string, machine: string[]): Promise<Record<string, unknown>> {
  const runDir = join(await freshDirectory(t), 'run');
  const args = [
    '--dev-bind',
    '/',
    '/',
    ...machine,
    process.execPath,
    '--input-type=module-typescript',
    '-e',
    openOne,
    runDir,
    setting,
  ];
  const { stdout } = await promisify(execFile)('bwrap', args, { env: { PATH: '/usr/bin:/bin' } });
  return JSON.parse(stdout) as Record<string, unknown>;
}

const absent = (name: string) => ['--ro-bind', '/dev/null', `/usr/bin/${name}`];
const withoutNamespaces = ['--unshare-user', '--disable-userns'];

describe('isolation', { skip: leftOut('jail', ['bwrap', 'socat']) }, () => {
  test('auto takes the jail where it works', async (t) => {
    const { isolation } = await startJails(t, { setting: 'auto' });
    assert.deepEqual(isolation, { setting: 'auto', jailed: true, problems: [] });
  });

  test('auto without the programs goes on without a jail and says what is missing', async (t) => {
    assert.deepEqual(await elsewhere(t, 'auto', [...absent('bwrap'), ...absent('socat')]), {
      setting: 'auto',
      jailed: false,
      problems: ['bwrap is not installed (package bubblewrap).', 'socat is not installed (package socat).'],
      jail: false,
      sandbox: false,
    });
  });

  test('auto where namespaces are forbidden goes on without a jail and says why', async (t) => {
    const found = await elsewhere(t, 'auto', withoutNamespaces);
    assert.equal(found['jailed'], false);
    assert.match(String(found['problems']), /^A jail cannot be started: .*namespace/i);
  });

  test('a demanded jail that does not work is an error that says why', async (t) => {
    const missing = await elsewhere(t, 'bwrap', absent('socat'));
    const cause = 'no jail can be made here: socat is not installed (package socat).';
    assert.deepEqual(missing, { code: 'isolation_unavailable', cause });
    const forbidden = await elsewhere(t, 'bwrap', withoutNamespaces);
    assert.equal(forbidden['code'], 'isolation_unavailable');
    assert.match(String(forbidden['cause']), /namespace/i);
  });
});

test('none is the operator’s word: no jail, and no problem', async (t) => {
  const { isolation } = await startJails(t, { setting: 'none' });
  assert.deepEqual(isolation, { setting: 'none', jailed: false, problems: [] });
});

test('without a jail nobody but the service’s own directories refuses a project', async (t) => {
  const jails = await startJails(t, { setting: 'none' });
  const own = (error: unknown) => error instanceof SallyportError && error.code === 'path_not_allowed';
  await assert.rejects(jails.open({ projectPath: jails.runDir, access: 'ro', bash: false }), own);
  const path = await freshDirectory(t);
  const jail = await jails.open({ projectPath: path, access: 'ro', bash: false });
  assert.deepEqual([jail.root, jail.hostRoot, jail.jailed], [path, path, false]);
});
