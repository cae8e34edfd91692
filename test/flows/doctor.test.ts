import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmod, mkdtemp, readFile, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { scripted, until } from '../support/runs.ts';
import { query, runProgram, startProgram } from '../support/service.ts';

const limit = { timeout: 120_000 };

/** An empty directory to start the program in. */
async function directory(t: TestContext): Promise<string> {
  const path = await realpath(await mkdtemp(join(tmpdir(), 'sp-doctor-')));
  await chmod(path, 0o755); // The jail's user has to be able to enter it.
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** Runs a command of the program. Gives its exit code and what it wrote. */
async function said(args: readonly string[], env: Readonly<Record<string, string>>, cwd: string) {
  const { child, output } = runProgram(args, env, cwd);
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, text: output() };
}

/** The lines of the processes in what the doctor wrote. */
const processesIn = (text: string): string[] => text.slice(text.indexOf('\nProcesses\n')).trim().split('\n').slice(1);

test('the doctor lists the processes of the service that runs, with use, memory and settings', limit, async (t) => {
  const cwd = await directory(t);
  const settings = { SALLYPORT_RUN_DIR: join(cwd, 'run'), SALLYPORT_SPARES: '0' };
  const program = await startProgram({ ...settings, SALLYPORT_PORT: '0' }, cwd);
  t.after(async () => {
    program.signal('SIGTERM');
    await program.exited;
  });
  const env = { ...settings, SALLYPORT_PORT: new URL(program.url).port };
  assert.deepEqual(processesIn((await said(['doctor'], env, cwd)).text), ['  none']);
  const key = (await readFile(join(cwd, 'data/admin-key'), 'utf8')).trim();
  // The conversation is first: else it would begin in the process that the query has left.
  const path = '/api/claude/conversation/start?session_id=talk';
  const talk = { prompt: scripted([{ text: 'Yes.' }]), permission_mode: 'readOnly' };
  assert.equal((await query(program, talk, { key, path })).status, 200);
  const asked = { prompt: scripted([{ text: 'Yes.' }]), permission_mode: 'readOnly', allowed_tools: ['Read'] };
  assert.equal((await query(program, asked, { key })).status, 200);
  const authorization = `Bearer ${key}`;
  const listed = async () => {
    const response = await fetch(`${program.url}/api/admin/processes`, { headers: { authorization } });
    return ((await response.json()) as { items: Record<string, any>[] }).items;
  };
  const states = async () => (await listed()).map(({ state }) => state as string).toSorted();
  await until(async () => (await states()).join() === 'cleared,idle');

  const doctor = await said(['doctor'], env, cwd);
  const table = await said(['processes'], env, cwd);
  assert.equal(table.code, 0, table.text);
  for (const lines of [processesIn(doctor.text), table.text.trim().split('\n')]) {
    const [titles = '', ...rows] = lines;
    assert.match(titles, /^PID +STATE +AGE +USES +MEMORY +TENANT +CONVERSATION +PROFILE$/u);
    const rowOf = (state: string) => rows.find((row) => row.includes(` ${state} `)) ?? '';
    assert.equal(rows.length, 2);
    assert.match(rowOf('idle'), /^\d+ +idle +\d+ (?:s|min) +1 +[1-9]\d* MB +default +talk +readOnly \S+ \S*Read\S*$/u);
    assert.match(rowOf('cleared'), /^\d+ +cleared +\d+ (?:s|min) +2 +[1-9]\d* MB +default +\S+ +readOnly \S+ Read$/u);
  }
  const items = await said(['processes', '--json'], env, cwd);
  const pids = (JSON.parse(items.text) as { pid: number }[]).map(({ pid }) => pid);
  assert.deepEqual(new Set(pids), new Set((await listed()).map(({ pid }) => pid as number)));
});

test('without a service the doctor says so, and finds no fault in that', limit, async (t) => {
  const cwd = await directory(t);
  // Nobody serves there.
  const env = { SALLYPORT_ISOLATION: 'none', SALLYPORT_PORT: '9', SALLYPORT_RUN_DIR: join(cwd, 'run') };
  const keyless = await said(['doctor'], env, cwd);
  assert.equal(keyless.code, 0, keyless.text);
  assert.match(processesIn(keyless.text).join('\n'), /^ {2}not known: no admin key: /u);
  const alone = await said(['doctor'], { ...env, CLAUDE_API_MASTER_KEY: 'a-key-of-nobody-0123456789' }, cwd);
  assert.equal(alone.code, 0, alone.text);
  assert.match(processesIn(alone.text).join('\n'), /^ {2}not known: no service answers at http:\/\/127\.0\.0\.1:9: /u);
  const faulty = await said(['doctor'], { ...env, DATABASE_URL: 'postgres://nobody@127.0.0.1:9/none' }, cwd);
  assert.equal(faulty.code, 1, faulty.text);
  assert.match(processesIn(faulty.text).join('\n'), /^ {2}not known: no admin key: /u);
});
