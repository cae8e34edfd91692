import assert from 'node:assert/strict';
import { lstat, mkdir, readdir, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { leftOut } from '../../../../test/support/needs.ts';
import { fileShortage } from '../../../../test/support/shortage.ts';
import { isRoot, nap, pidsWith, refusedWith, runScript, slot, startJails, startScript, until } from './jail-support.ts';

describe('the life of a jail', { skip: leftOut('jail', ['bwrap', 'socat']) }, () => {
  test('kill ends daemons that left their session and cleared their environment', async (t) => {
    const jails = await startJails(t);
    const jail = await jails.open(slot);
    const child = startScript(
      jail,
      `setsid env -i /bin/sleep ${nap(617)} & setsid sh -c 'trap "" TERM HUP; while :; do sleep ${nap(617)}; done' & sleep ${nap(617)}`,
    );
    child.stderr.resume();
    await until('all run', async () => (await pidsWith(nap(617))).length >= 4);
    jail.kill();
    await jail.exited;
    assert.deepEqual(await pidsWith(nap(617)), []);
  });

  test('daemons end with the process they came from', async (t) => {
    const jail = await (await startJails(t)).open(slot);
    await runScript(jail, `setsid env -i /bin/sleep ${nap(618)} >/dev/null 2>&1 & echo started`);
    assert.deepEqual(await pidsWith(nap(618)), []);
  });

  test('remove deletes everything of it, frees its user, and can be repeated', async (t) => {
    const jails = await startJails(t);
    const jail = await jails.open(slot);
    await runScript(jail, 'mkdir -p a/b; touch a/b/c; chmod 000 a/b a; mkdir $CLAUDE_CONFIG_DIR/x');
    await Promise.all([jail.remove(), jail.remove()]);
    await jail.remove();
    assert.deepEqual(await readdir(join(jails.runDir, 'jails')), []);
    assert.deepEqual(jails.live(), []);
  });

  test('a jail that never ran can be killed and removed; a killed one cannot be started', async (t) => {
    const jails = await startJails(t);
    const jail = await jails.open(slot);
    jail.kill();
    await jail.exited;
    assert.throws(() => startScript(jail, 'true'), refusedWith('agent_crashed'));
    await jail.remove();
    assert.deepEqual(await readdir(join(jails.runDir, 'jails')), []);
  });

  test('a process that cannot be written down is killed, not run', async (t) => {
    const jails = await startJails(t);
    const jail = await jails.open(slot);
    // In the way of the new entry.
    await mkdir(join(jails.runDir, 'jails', jail.id, 'entry.json.new'));
    assert.throws(() => startScript(jail, `sleep ${nap(626)}`), refusedWith('internal'));
    await jail.exited;
    assert.deepEqual(await pidsWith(nap(626)), []);
  });

  test('an aborted signal ends the process', async (t) => {
    const jail = await (await startJails(t)).open(slot);
    const abort = new AbortController();
    const { env, root: cwd } = jail;
    jail.spawn({ command: '/bin/sh', args: ['-c', `sleep ${nap(627)}`], env, cwd, signal: abort.signal });
    await until('it runs', async () => (await pidsWith(nap(627))).length > 0);
    abort.abort();
    await jail.exited;
    assert.deepEqual(await pidsWith(nap(627)), []);
  });

  test('where the system gives no more files the start is refused, and works again later', async (t) => {
    const jails = await startJails(t);
    const [refused, later] = [await jails.open(slot), await jails.open(slot)];
    const shortage = fileShortage(t);
    shortage.begin();
    assert.throws(() => startScript(refused, 'true'), refusedWith('overloaded'));
    shortage.end();
    await refused.exited;
    await refused.remove();
    assert.equal(await runScript(later, 'echo works'), 'works\n');
  });

  test('two jails never share a user where the server can switch users', { skip: !isRoot }, async (t) => {
    const jails = await startJails(t);
    const opened = await Promise.all(Array.from({ length: 8 }, () => jails.open(slot)));
    const uids = await Promise.all(opened.map(async (jail) => (await stat(jail.hostRoot)).uid));
    assert.equal(new Set(uids).size, 8);
    for (const jail of opened) {
      const { mode } = await lstat(jail.env['CLAUDE_CONFIG_DIR']!);
      assert.equal(mode & 0o777, 0o700);
    }
  });

  test('stamps tell files, links and changes from inside, within the limit, without the objects of git', async (t) => {
    const jail = await (await startJails(t)).open(slot);
    await jail.writeFiles([
      { path: 'a.txt', content: 'a' },
      { path: 'deep/er/b.txt', content: 'bb' },
      { path: '.git/objects/ab/cd', content: 'x' },
      { path: '.git/HEAD', content: 'x' },
    ]);
    await symlink('/etc', join(jail.hostRoot, 'link'));
    await mkdir(join(jail.hostRoot, 'closed'), { mode: 0 });
    const before = await jail.stamps(10);
    assert.deepEqual([...before!.keys()].sort(), ['.git/HEAD', 'a.txt', 'deep/er/b.txt', 'link']);
    assert.match(before!.get('deep/er/b.txt')!, /^2:\d+\.\d+:\d+\.\d+$/);
    await writeFile(join(jail.hostRoot, 'a.txt'), 'A');
    const after = await jail.stamps(4);
    assert.notEqual(after!.get('a.txt'), before!.get('a.txt'));
    assert.equal(after!.get('link'), before!.get('link'));
    assert.equal(await jail.stamps(3), null);
    jail.kill();
    assert.equal(await jail.stamps(10), null);
  });

  test('files go in before the turn and are the jail user’s own', async (t) => {
    const jail = await (await startJails(t)).open(slot);
    await jail.writeFiles([{ path: 'src/a.txt', content: 'päper' }]);
    assert.equal(
      await runScript(jail, 'cat src/a.txt; echo; echo more >> src/a.txt && touch src/b && ls src'),
      'päper\na.txt\nb\n',
    );
  });
});
