import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chown, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { leftOut } from '../../../../test/support/needs.ts';
import { freshDirectory, isRoot, nap, pidsWith, silent, startJails, startScript, until } from './jail-support.ts';
import { reap, record } from './reaper.ts';
import { identify, isRunning, killAll, marker, type ProcessId } from './registry.ts';
import { prepareRunDirectory } from './slots.ts';

const jailsOf = (runDir: string) => readdir(join(runDir, 'jails'));
/** A server that is gone. */
const goneServer: ProcessId = { pid: process.pid, start: 'before this one' };

/** A process that does nothing, killed after the test if it still runs. */
async function idle(
  t: TestContext,
  env: Record<string, string> = {},
): Promise<{ child: ChildProcess; known: ProcessId }> {
  const child = spawn('/bin/sleep', ['620'], { env, detached: true, stdio: 'ignore' });
  t.after(() => child.kill('SIGKILL'));
  await until('it runs', () => child.pid !== undefined && identify(child.pid) !== null);
  return { child, known: identify(child.pid!)! };
}

async function leftJail(t: TestContext): Promise<{ runDir: string; directory: string }> {
  const { path: runDir } = await prepareRunDirectory(join(await freshDirectory(t), 'run'));
  const directory = join(runDir, 'jails', 'proc-left');
  await mkdir(join(directory, 'slot/a'), { recursive: true });
  await writeFile(join(directory, 'slot/a/file'), 'x');
  return { runDir, directory };
}

const repository = join(import.meta.dirname, '../../../..');

/** Starts a program of this folder, as the user if one is given: wherever the repository lies, the user sees it elsewhere. */
async function startSupport(t: TestContext, file: string, wanted: object, user?: { uid: number; gid: number }) {
  const options = { stdio: ['ignore', 'pipe', 'inherit'] as ['ignore', 'pipe', 'inherit'], env: {}, cwd: '/' };
  const program = [process.execPath, join(import.meta.dirname, file), JSON.stringify(wanted)];
  if (!user) return spawn(program[0]!, program.slice(1), options);
  const point = await freshDirectory(t);
  const seen = program.map((part) => part.replace(repository, point));
  const become = `setpriv --reuid ${user.uid} --regid ${user.gid} --clear-groups`;
  const script = `mount --bind "$1" "$2" && shift 2 && exec ${become} -- "$@"`;
  const stages = ['--mount', '--', '/bin/sh', '-c', script, 'sh', repository, point, ...seen];
  return spawn('/usr/bin/unshare', stages, { ...options, env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } });
}

/** Starts `jail-owner-support.ts` and waits until its script has said `ready`. */
async function startOwner(t: TestContext, wanted: object, user?: { uid: number; gid: number }) {
  const owner = await startSupport(t, 'jail-owner-support.ts', wanted, user);
  t.after(() => owner.kill('SIGKILL'));
  let output = '';
  owner.stdout.on('data', (data: Buffer) => (output += String(data)));
  await until('the owner is ready', () => output.includes('ready\n') || owner.exitCode !== null);
  const said = output.split('\n').find((line) => line.startsWith('{'));
  assert.ok(said, `the owner ended: ${output}`);
  return { owner, ...(JSON.parse(said) as { id: string; uid: number; jailed: boolean; pid: number }) };
}

test('a pid names a process only together with its start', async (t) => {
  const { child, known } = await idle(t);
  assert.equal(isRunning(known), true);
  assert.equal(isRunning({ ...known, start: '1' }), false);
  child.kill('SIGKILL');
  await until('it is gone', () => !isRunning(known));
});

test('a survivor of an earlier server is killed and its directories deleted', async (t) => {
  const { runDir, directory } = await leftJail(t);
  const { known } = await idle(t);
  record(directory, { id: 'proc-left', uid: null, leader: known, owner: goneServer });
  assert.deepEqual(await reap(runDir), { removed: ['proc-left'], stuck: [] });
  assert.equal(isRunning(known), false);
  assert.deepEqual(await jailsOf(runDir), []);
});

test('a process that has the pid of a survivor but another start is left alone', async (t) => {
  const { runDir, directory } = await leftJail(t);
  const { known } = await idle(t);
  record(directory, { id: 'proc-left', uid: null, leader: { ...known, start: '12' }, owner: goneServer });
  assert.deepEqual(await reap(runDir), { removed: ['proc-left'], stuck: [] });
  assert.equal(isRunning(known), true);
});

test('a process that carries the mark of a left jail is killed, one with another mark is not', async (t) => {
  const { runDir, directory } = await leftJail(t);
  const marked = await idle(t, { [marker]: 'proc-left' });
  const other = await idle(t, { [marker]: 'proc-left2' });
  record(directory, { id: 'proc-left', uid: null, leader: null, owner: goneServer });
  await reap(runDir);
  assert.equal(isRunning(marked.known), false);
  assert.equal(isRunning(other.known), true);
});

test('jails of a server that still runs are left alone, and so is nothing without an entry', async (t) => {
  const { runDir, directory } = await leftJail(t);
  const { known } = await idle(t);
  record(directory, { id: 'proc-left', uid: null, leader: known, owner: identify(process.pid)! });
  await mkdir(join(runDir, 'jails', 'proc-half'));
  assert.deepEqual(await reap(runDir), { removed: ['proc-half'], stuck: [] });
  assert.equal(isRunning(known), true);
  assert.deepEqual(await jailsOf(runDir), ['proc-left']);
});

test('an entry of a server that is not root cannot name a user whose processes are to die', async (t) => {
  const where = await freshDirectory(t);
  if (isRoot) await chown(where, 12345, 12345);
  const user = isRoot ? { uid: 12345, gid: 12345 } : undefined;
  const child = await startSupport(t, 'reap-own-support.ts', { runDir: join(where, 'run') }, user);
  let output = '';
  child.stdout.on('data', (data: Buffer) => (output += String(data)));
  await once(child, 'close');
  assert.equal(output, `uid ${user?.uid ?? process.getuid?.()} still runs\n`);
});

test('every process of an own user dies, whatever it did to its environment', { skip: !isRoot }, async (t) => {
  const uid = 1_999_999_001;
  const child = spawn('/bin/sh', ['-c', `setsid env -i /bin/sleep ${nap(621)} & exec env -i /bin/sleep ${nap(621)}`], {
    uid,
    gid: uid,
    env: {},
    cwd: '/',
    stdio: 'ignore',
  });
  t.after(() => child.kill('SIGKILL'));
  await until('both run', async () => (await pidsWith(nap(621))).length === 2);
  assert.equal(await killAll({ id: 'proc-x', uid, leader: null }, 5000), true);
  assert.deepEqual(await pidsWith(nap(621)), []);
});

test('without walls the watchdog ends everything of a server that is killed', async (t) => {
  const runDir = join(await freshDirectory(t), 'run');
  const script = `setsid sleep ${nap(622)} & (sleep ${nap(622)} &) ; trap "" TERM HUP; echo ready; sleep ${nap(622)}; sleep 1`;
  const { owner, jailed } = await startOwner(t, { runDir, setting: 'none', script });
  assert.equal(jailed, false);
  assert.ok((await pidsWith(nap(622))).length >= 3);
  owner.kill('SIGKILL');
  await until('nothing is left', async () => (await pidsWith(nap(622))).length === 0);
  await until('the directories are gone', async () => (await jailsOf(runDir)).length === 0);
  await until('the watchdog is gone', async () => (await pidsWith(runDir)).length === 0);
});

test('without walls kill ends daemons that left the group, and close ends the watchdog', async (t) => {
  const jails = await startJails(t, { setting: 'none', log: silent });
  const jail = await jails.open({ projectPath: null, access: 'rw', bash: false });
  assert.equal(jail.jailed, false);
  assert.equal(jail.root, jail.hostRoot);
  assert.equal(jail.sandbox, undefined);
  startScript(jail, `setsid sh -c 'trap "" TERM; sleep ${nap(623)}; sleep 1' & sleep ${nap(623)}`).stderr.resume();
  await until('all run', async () => (await pidsWith(nap(623))).length >= 4);
  jail.kill();
  await jail.exited;
  assert.deepEqual(await pidsWith(nap(623)), []);
  await jails.close();
  await until('the watchdog is gone', async () => (await pidsWith(jails.runDir)).length === 0);
});

describe('with walls', { skip: leftOut('jail', ['bwrap', 'socat']) }, () => {
  const script = `setsid env -i /bin/sleep ${nap(624)} & (setsid sh -c "sleep ${nap(624)}" &) ; trap "" TERM HUP; echo ready; sleep ${nap(624)}`;

  test('a server that is killed leaves no process, and the next one deletes its directories', async (t) => {
    const runDir = join(await freshDirectory(t), 'run');
    const { owner, id } = await startOwner(t, { runDir, setting: 'bwrap', script });
    assert.ok((await pidsWith(nap(624))).length >= 3);
    owner.kill('SIGKILL');
    await until('nothing is left', async () => (await pidsWith(nap(624))).length === 0);
    assert.deepEqual(await jailsOf(runDir), [id]);
    await startJails(t, { runDir });
    assert.deepEqual(await jailsOf(runDir), []);
  });

  test('an ordinary user has the same walls and the same end', { skip: !isRoot }, async (t) => {
    const user = { uid: 12345, gid: 12345 };
    const where = await freshDirectory(t);
    await chown(where, user.uid, user.gid);
    const runDir = join(where, 'run');
    const probe = 'id -u; pwd; ls /var /root 2>&1; touch x && echo wrote; touch /x /usr/x 2>&1';
    const { owner, uid, jailed } = await startOwner(
      t,
      { runDir, setting: 'bwrap', script: `{ ${probe}; } > $PWD/said; ${script}` },
      user,
    );
    assert.deepEqual({ uid, jailed }, { uid: 12345, jailed: true });
    const [id] = await jailsOf(runDir);
    const said = await readFile(join(runDir, 'jails', id!, 'slot/said'), 'utf8');
    assert.match(said, /^12345\n\/workspace\n/);
    assert.match(said, /\/var.*No such file[^]*\/root.*No such file[^]*wrote\n[^]*Read-only[^]*Read-only/);
    owner.kill('SIGKILL');
    await until('nothing is left', async () => (await pidsWith(nap(624))).length === 0);
  });
});
