import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { leftOut } from '../../../../test/support/needs.ts';
import {
  freshDirectory,
  freshProject,
  isRoot,
  runScript,
  slot,
  startJails,
  startScript,
  until,
} from './jail-support.ts';
import { keptName } from './kept-files.ts';

const name = keptName('acme', 'conv-1');
const kept = { ...slot, kept: { name, epoch: 1 } };
const settings = leftOut('jail', ['bwrap', 'socat']) ? (['none'] as const) : (['none', 'bwrap'] as const);

async function directories(t: TestContext) {
  const base = await freshDirectory(t);
  return { runDir: join(base, 'run'), keptDir: join(base, 'run-kept') };
}

for (const setting of settings) {
  test(`kept files belong to the next process and to no other (isolation ${setting})`, async (t) => {
    const where = await directories(t);
    const jails = await startJails(t, { ...where, setting });
    const first = await jails.open(kept);
    await first.writeFiles([{ path: 'd/given', content: 'given' }]);
    await runScript(first, 'cat d/given; echo more >> d/given; mkdir closed; echo x > closed/file; chmod 0 closed');
    await first.keepFiles();
    await first.remove();
    const second = await jails.open(kept);
    const neighbour = await jails.open(slot);
    const seen = await runScript(
      second,
      `cat d/given; echo again >> d/given && rm -r closed && ls; ls ${where.keptDir} 2>&1 | sed "s/.*: //"`,
    );
    const notSeen = setting === 'bwrap' ? 'No such file or directory' : 'Permission denied';
    if (isRoot) assert.equal(seen, `givenmore\nd\n${notSeen}\n`);
    assert.equal(await runScript(neighbour, 'ls -A'), '');
    assert.equal((await stat(where.keptDir)).mode & 0o777, 0o700);
    await second.keepFiles();
    assert.equal(await readFile(join(where.keptDir, name, '1/d/given'), 'utf8'), 'givenmore\nagain\n');
    await Promise.all([second.remove(), neighbour.remove()]);
    assert.deepEqual(await readdir(join(where.runDir, 'jails')), []);
    await jails.forget(name);
    assert.deepEqual(await readdir(where.keptDir), []);
  });

  test(`what runs is ended before files are kept (isolation ${setting})`, async (t) => {
    const where = await directories(t);
    const jail = await (await startJails(t, { ...where, setting })).open(kept);
    startScript(jail, 'while :; do date > now; echo ready; done').stdout.resume();
    await until('it writes', async () => (await readdir(jail.hostRoot)).includes('now'));
    await jail.keepFiles();
    await jail.exited;
    assert.deepEqual(await readdir(join(where.keptDir, name, '1')), ['now']);
  });
}

test('what a turn did to the files is there when its server was killed', async (t) => {
  const where = await directories(t);
  const [setting] = settings.slice(-1);
  const before = await startJails(t, { ...where, setting: setting! });
  const jail = await before.open(kept);
  await jail.writeFiles([{ path: 'a', content: 'before' }]);
  await jail.keepFiles();
  await jail.remove();
  await before.close();
  const wanted = {
    runDir: where.runDir,
    setting,
    kept: kept.kept,
    script: 'cat a; rm a; touch b; echo; echo ready; sleep 300',
  };
  const owner = spawn(process.execPath, [join(import.meta.dirname, 'jail-owner-support.ts'), JSON.stringify(wanted)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {},
    cwd: '/',
  });
  t.after(() => owner.kill('SIGKILL'));
  let output = '';
  owner.stdout.on('data', (data: Buffer) => (output += String(data)));
  await until('it runs', () => output.includes('ready\n') || owner.exitCode !== null);
  assert.match(output, /before\nready/);
  owner.kill('SIGKILL');
  await new Promise((resolve) => owner.once('exit', resolve));
  const after = await startJails(t, { ...where, setting: setting! });
  assert.equal((await runScript(await after.open(kept), 'ls')).trim(), 'b');
});

test('a process whose files cannot be put back is not started, and nothing is left of its place', async (t) => {
  const where = await directories(t);
  const jails = await startJails(t, { ...where, setting: 'none' });
  await writeFile(where.keptDir, 'no directory');
  await assert.rejects(jails.open(kept), { code: 'ENOTDIR' });
  assert.deepEqual(await readdir(join(where.runDir, 'jails')), []);
});

test('of a project nothing is kept, and a config file is written only before the start', async (t) => {
  const where = await directories(t);
  const jails = await startJails(t, { ...where, setting: 'none' });
  const project = isRoot ? null : await freshProject(t);
  const jail = await jails.open(project === null ? slot : { ...kept, projectPath: project });
  await jail.writeConfig({ path: 'projects/x/s.jsonl', content: '{}' });
  assert.equal(await runScript(jail, 'cat $CLAUDE_CONFIG_DIR/projects/x/s.jsonl'), '{}');
  await assert.rejects(jail.writeConfig({ path: 'late', content: '' }), { code: 'internal' });
  await jail.keepFiles();
  assert.deepEqual(await readdir(join(where.keptDir, '..')), ['run']);
});
