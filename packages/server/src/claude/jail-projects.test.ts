import assert from 'node:assert/strict';
import { chmod, mkdir, readdir, rename, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { leftOut } from '../../../../test/support/needs.ts';
import {
  freshDirectory,
  freshProject,
  isRoot,
  refusedWith,
  runScript,
  slot,
  startJails,
  startScript,
} from './jail-support.ts';

describe('projects', { skip: leftOut('jail', ['bwrap', 'socat']) }, () => {
  test(
    'one that its user may not enter, read or write is refused before anything runs',
    { skip: !isRoot },
    async (t) => {
      const jails = await startJails(t);
      const open = async (mode: number, access: 'ro' | 'rw') =>
        jails.open({ projectPath: await freshProject(t, mode), access, bash: false });
      for (const [mode, access] of [
        [0o000, 'ro'],
        [0o300, 'ro'],
        [0o400, 'ro'],
        [0o500, 'rw'],
      ] as const) {
        await assert.rejects(
          open(mode, access),
          refusedWith('workspace_not_accessible'),
          `${mode.toString(8)} ${access}`,
        );
      }
      assert.equal(await runScript(await open(0o500, 'ro'), 'cat read.me'), 'hello');
      const roots = await freshDirectory(t);
      await assert.rejects(
        jails.open({ projectPath: roots, access: 'rw', bash: false }),
        refusedWith('workspace_not_accessible'),
      );
      assert.match(await runScript(await jails.open({ projectPath: roots, access: 'ro', bash: false }), 'pwd'), /spj-/);
      await assert.rejects(
        jails.open({ projectPath: join(roots, 'absent'), access: 'ro', bash: false }),
        refusedWith('workspace_not_accessible'),
      );
      assert.deepEqual((await readdir(join(jails.runDir, 'jails'))).length, 2);
    },
  );

  test('the service’s own directories, links and the system’s roots are no projects', async (t) => {
    const base = await freshDirectory(t);
    const data = join(base, 'data');
    await mkdir(data);
    await symlink(data, join(base, 'link'));
    const jails = await startJails(t, { hidden: [data] });
    for (const path of [
      data,
      join(base, 'link'),
      jails.runDir,
      join(jails.runDir, 'jails'),
      '/',
      '/proc',
      '/tmp',
      '/proc/self',
      '/dev',
    ]) {
      await assert.rejects(
        jails.open({ projectPath: path, access: 'ro', bash: false }),
        refusedWith('path_not_allowed'),
        path,
      );
    }
  });

  for (const access of ['ro', 'rw'] as const) {
    test(`data and run directory inside a project are empty there (${access})`, async (t) => {
      const path = await freshProject(t);
      const [data, runDir] = [join(path, 'data'), join(path, 'run')];
      await mkdir(data, { mode: 0o755 });
      await writeFile(join(data, 'database'), 'x');
      await chmod(join(path, '..'), 0o755);
      await chmod(path, 0o755);
      const jails = await startJails(t, { hidden: [data], runDir });
      const neighbour = await jails.open(slot);
      const jail = await jails.open({ projectPath: path, access, bash: false });
      const output = await runScript(
        jail,
        'cat read.me; ls -A data run run/jails; touch $CLAUDE_CONFIG_DIR/x && echo ok; touch data/x run/x; unshare -Urm sh -c "umount data; ls -A data"',
      );
      assert.match(output, /^hello/);
      assert.match(output, /ok\n/);
      assert.doesNotMatch(output, /database|broker/);
      assert.ok(!output.includes(neighbour.id));
      assert.deepEqual(await readdir(data), ['database']);
    });
  }

  test('a directory that was swapped after it was judged is not entered', async (t) => {
    const jails = await startJails(t);
    const path = await freshProject(t);
    const other = await freshProject(t);
    const jail = await jails.open({ projectPath: path, access: 'rw', bash: false });
    await rename(path, `${path}.away`);
    await symlink(other, path);
    assert.equal(await runScript(jail, 'echo in'), '');
    assert.deepEqual(await readdir(other), ['read.me']);
  });

  test('the jails of one project share its user and end one by one', async (t) => {
    const jails = await startJails(t);
    const path = await freshProject(t);
    const [one, two] = [
      await jails.open({ projectPath: path, access: 'rw', bash: false }),
      await jails.open({ projectPath: path, access: 'ro', bash: false }),
    ];
    startScript(one, 'echo $$; sleep 619').stdout.resume();
    const child = startScript(two, 'echo ready; read line; echo $line');
    await new Promise((resolve) => child.stdout.once('data', resolve));
    await one.remove();
    const answer = new Promise((resolve) => child.stdout.once('data', (data: Buffer) => resolve(String(data))));
    child.stdin.end('still here\n');
    assert.equal(await answer, 'still here\n');
  });
});
