import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, realpath, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import type { Step } from '@sallyport/simulator';
import { leftOut } from '../support/needs.ts';
import { processesWith } from '../support/processes.ts';
import { answerOf, rows, scripted, turnState } from '../support/runs.ts';
import { runProgram, startProgram, type Program } from '../support/service.ts';

const repository = join(import.meta.dirname, '../..');

let base: string;
before(async () => {
  base = await realpath(await mkdtemp(join(tmpdir(), 'sp-program-')));
  await chmod(base, 0o755);
});
after(() => rm(base, { recursive: true }));

let number = 0;
/** An empty directory to start the program in. */
async function directory(): Promise<string> {
  const path = join(base, `place-${(number += 1)}`);
  await mkdir(path);
  return path;
}

const anyPort = { SALLYPORT_PORT: '0' };
const line = (program: Pick<Program, 'output'>, name: string) =>
  new RegExp(`^${name}: (.*)$`, 'mu').exec(program.output())?.[1] ?? '';

/** The program in a directory; ended with the test, should it still run then. */
async function started(context: TestContext, env: Record<string, string>, cwd: string): Promise<Program> {
  const program = await startProgram(env, cwd);
  context.after(async () => {
    program.signal('SIGKILL');
    await program.exited;
  });
  return program;
}

async function stopped(program: Program): Promise<number | string> {
  program.signal('SIGTERM');
  return await program.exited;
}

test('the first start tells address, key and a command that works, later ones where the key is', async (context) => {
  const cwd = await directory();
  await writeFile(join(cwd, 'notes.txt'), 'Roses grow here.\n');
  const first = await started(context, anyPort, cwd);
  const key = (await readFile(join(cwd, 'data/admin-key'), 'utf8')).trim();
  assert.match(line(first, 'Address'), /^http:\/\/127\.0\.0\.1:\d+$/u);
  assert.ok(line(first, 'Key').startsWith(key));
  assert.match(first.output(), /a simulated model answers/u);
  assert.equal((await stat(join(cwd, 'data/admin-key'))).mode & 0o777, 0o600);
  const curl = line(first, 'Try');
  assert.match(curl, /^curl /u);
  const { stdout } = await promisify(execFile)('bash', ['-c', curl], { cwd: tmpdir() });
  const answer = JSON.parse(stdout);
  assert.equal(answer.success, true, stdout);
  assert.match(answerOf(answer), /notes\.txt/u);
  assert.equal(await stopped(first), 0);

  const second = await started(context, anyPort, cwd);
  assert.ok(!second.output().includes(key));
  assert.equal(line(second, 'Key'), `in ${join(cwd, 'data/admin-key')}`);
  const again = await promisify(execFile)('bash', ['-c', line(second, 'Try')], { cwd: tmpdir() });
  assert.equal(JSON.parse(again.stdout).success, true);
  assert.equal(await stopped(second), 0);
});

test('a configured key is never printed, and the command names its variable', async (context) => {
  const cwd = await directory();
  const env = { ...anyPort, CLAUDE_API_KEY_2: 'a-key-that-nobody-knows-0123456789', SALLYPORT_WORKSPACE_ROOTS: '' };
  const program = await started(context, env, cwd);
  assert.ok(!program.output().includes(env.CLAUDE_API_KEY_2));
  assert.match(line(program, 'Key'), /CLAUDE_API_KEY_2/u);
  const { stdout } = await promisify(execFile)('bash', ['-c', line(program, 'Try')], {
    env: { ...process.env, ...env },
  });
  assert.equal(JSON.parse(stdout).success, true, stdout);
  assert.equal(await stopped(program), 0);
});

/** The program's end when it could not start: exit code and what it wrote, log lines aside. */
async function failure(args: readonly string[], env: Record<string, string>, cwd: string, through?: readonly string[]) {
  const { child, output } = runProgram(args, env, cwd, through);
  const [code] = (await once(child, 'close')) as [number | null];
  const lines = output().split('\n');
  return { code, lines: lines.filter((each) => each !== '' && !each.startsWith('{')) };
}

/** One readable line, with the words that tell what to do. */
function assertOneLine(
  { code, lines }: Awaited<ReturnType<typeof failure>>,
  exit: number,
  ...words: readonly string[]
): void {
  assert.equal(code, exit, lines.join('\n'));
  assert.equal(lines.length, 1, lines.join('\n'));
  const [only = ''] = lines;
  assert.match(only, /^(?:sallyport|error): \S/u);
  assert.doesNotMatch(only, /\.(?:ts|js):\d|node:internal|\bat \w+ \(/u);
  for (const word of words) assert.ok(only.includes(word), `${word} is not in: ${only}`);
}

describe('a start that cannot be is one line and a code', { concurrency: 3 }, () => {
  test('the port is taken', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const port = String((server.address() as AddressInfo).port);
    assertOneLine(await failure(['serve', '--port', port], {}, await directory()), 1, port, 'taken');
    server.close();
  });

  test('the data directory is in use', async (context) => {
    const cwd = await directory();
    const program = await started(context, anyPort, cwd);
    assertOneLine(await failure(['serve'], anyPort, cwd), 1, 'another server', String(program.pid), join(cwd, 'data'));
    assert.equal((await fetch(`${program.url}/readyz`)).status, 200);
    assert.equal(await stopped(program), 0);
  });

  test('the data directory cannot be made', async () => {
    const cwd = await directory();
    await writeFile(join(cwd, 'file'), '');
    const env = { ...anyPort, SALLYPORT_DATA_DIR: 'file/data' };
    assertOneLine(await failure(['serve'], env, cwd), 1, join(cwd, 'file/data'), 'data directory');
  });

  /** The repository as an account sees it that may not pass all directories above it: mounted there once more. */
  const asStranger = (point: string): string[] => {
    const above = repository.split('/').map((_, index, parts) => parts.slice(0, index + 1).join('/') || '/');
    const closed = above.find((path) => (statSync(path).mode & 0o001) === 0) ?? '';
    const script = `
      if [ -n "$3" ]; then
        mount --bind "$1" "$2" && mount -t tmpfs -o mode=755 none "$3" && mkdir -p "$1" && mount --bind "$2" "$1"
      fi && shift 3 && exec setpriv --reuid=12345 --regid=12345 --clear-groups "$@"`;
    return ['unshare', '--mount', 'sh', '-c', script, 'sh', repository, point, closed];
  };

  const noRights = { skip: leftOut('a start without rights', ['setpriv']) };
  test('the data directory cannot be written, or belongs to another user', noRights, async () => {
    const cwd = await directory();
    await chmod(cwd, 0o555);
    // An account that is in no list of users and has no home directory.
    const isRoot = process.getuid?.() === 0;
    const through = isRoot ? asStranger(await directory()) : [];
    assertOneLine(await failure(['serve'], anyPort, cwd, through), 1, join(cwd, 'data'), 'EACCES');
    await chmod(cwd, 0o755);
    if (!isRoot) return;
    await mkdir(join(cwd, 'data'), { mode: 0o755 });
    assertOneLine(await failure(['serve'], anyPort, cwd, through), 1, join(cwd, 'data'), 'belongs to another');
  });

  const needsRoot = process.getuid?.() === 0;
  if (needsRoot) {
    test('the run directory lies where the users of the jails cannot go', async () => {
      const cwd = await directory();
      await mkdir(join(cwd, 'closed'), { mode: 0o700 });
      const env = { ...anyPort, SALLYPORT_RUN_DIR: join(cwd, 'closed/run') };
      assertOneLine(await failure(['serve'], env, cwd), 1, join(cwd, 'closed/run'), 'cannot pass');
    });
  }

  const noNamespaces = { skip: leftOut('a start without namespaces', ['unshare']) };
  test('there is no jail and the address can be reached from elsewhere', noNamespaces, async () => {
    const env = { ...anyPort, SALLYPORT_HOST: '0.0.0.0' };
    const script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"';
    // Where no namespace can be made at all, none has to be taken away.
    const through =
      spawnSync('unshare', ['-Ur', 'true']).status === 0 ? ['unshare', '-Ur', 'sh', '-c', script, 'sh'] : [];
    const given = await failure(['serve'], env, await directory(), through);
    assertOneLine(given, 1, 'without a jail', '0.0.0.0', 'loopback');
  });

  const secret = 'short-secret';
  const settings: readonly [Record<string, string>, ...string[]][] = [
    [{ SALLYPORT_PORT: 'http' }, 'SALLYPORT_PORT', '"http"', 'whole number'],
    [{ SALLYPORT_UPSTREAM: 'anthropic' }, 'SALLYPORT_UPSTREAM', 'ANTHROPIC_API_KEY'],
    [{ SALLYPORT_WORKSPACE_ROOTS: '/nowhere/at/all' }, 'SALLYPORT_WORKSPACE_ROOTS', '/nowhere/at/all'],
    [{ CLAUDE_API_KEY_1: secret }, 'CLAUDE_API_KEY_1', '16'],
    [
      { CLAUDE_API_KEY_1: 'the-same-key-0123456789', CLAUDE_API_MASTER_KEY: 'the-same-key-0123456789' },
      'CLAUDE_API_KEY_1',
      'same',
    ],
    [{ SALLYPORT_RUN_DIR: 'data/run' }, 'SALLYPORT_RUN_DIR', 'outside the data directory'],
    [{ ANTHROPIC_BASE_URL: 'ftp://user:hunter2@host' }, 'ANTHROPIC_BASE_URL', 'http'],
  ];
  for (const [env, ...words] of settings) {
    test(JSON.stringify(env), async () => {
      const given = await failure(['serve'], { ...anyPort, ...env }, await directory());
      assertOneLine(given, 78, ...words);
      assert.ok(!given.lines.join('').includes(secret) && !given.lines.join('').includes('hunter2'));
    });
  }

  test('the prices cannot be read', async () => {
    const cwd = await directory();
    await writeFile(join(cwd, 'prices.json'), '{"model": {"input": "much"}}');
    const start = (file: string) => failure(['serve'], { ...anyPort, SALLYPORT_PRICES: file }, cwd);
    assertOneLine(await start('prices.json'), 1, join(cwd, 'prices.json'), 'input');
    assertOneLine(await start('none.json'), 1, join(cwd, 'none.json'));
  });

  test('the config file is wrong', async () => {
    const cwd = await directory();
    await writeFile(join(cwd, 'config.json'), '{"prot": 8000}');
    assertOneLine(await failure(['serve', '--config', 'config.json'], {}, cwd), 78, 'config.json', 'prot', 'port');
    assertOneLine(await failure(['serve', '--config', 'none.json'], {}, cwd), 78, 'none.json');
  });

  test('a flag or a command is not known', async () => {
    assertOneLine(await failure(['serve', '--prot', '1'], {}, await directory()), 64, '--prot');
    assertOneLine(await failure(['sevre'], {}, await directory()), 64, 'sevre');
    assertOneLine(await failure(['serve', '--claude-api-key-1', 'x'], {}, await directory()), 64, '--claude-api-key-1');
  });
});

test('SIGTERM ends a run as interrupted, and the same data serves again', async (context) => {
  const cwd = await directory();
  const runDir = join(base, 'run');
  const env = { ...anyPort, SALLYPORT_DRAIN_SECONDS: '2', SALLYPORT_RUN_DIR: runDir };
  const program = await started(context, env, cwd);
  const key = (await readFile(join(cwd, 'data/admin-key'), 'utf8')).trim();
  const endless: Step = { text: 'One word after the other. '.repeat(80), rate: 10 };
  const response = await fetch(`${program.url}/api/claude/stream`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: scripted([endless], 'interrupted-'), timeout: 300 }),
  });
  const body: string[] = [];
  for await (const chunk of response.body!) {
    if (body.length === 0) program.signal('SIGTERM');
    body.push(Buffer.from(chunk as Uint8Array).toString());
  }
  assert.equal(await program.exited, 0);
  const frames = body.join('').trimEnd().split('\n\n');
  assert.equal(frames.at(-1), 'data: [DONE]');
  const last = JSON.parse(frames.at(-2)?.replace(/^id: .*\ndata: /u, '') ?? '');
  assert.deepEqual([last.type, last.success, last.stop_reason], ['result', false, 'interrupted']);
  assert.match(last.error, /service is stopping/u);
  assert.deepEqual(await processesWith(runDir), []);
  const dataDir = join(cwd, 'data');
  assert.equal(turnState({ dataDir }, 'interrupted-'), 'interrupted');

  const again = await started(context, env, cwd);
  assert.equal((await fetch(`${again.url}/readyz`)).status, 200);
  assert.equal(rows({ dataDir }, "select seq from events where type = 'result'").length, 1);
  assert.equal(await stopped(again), 0);
});

test('a run that is over before the service must end is not cut', async (context) => {
  const cwd = await directory();
  const program = await started(context, { ...anyPort, SALLYPORT_DRAIN_SECONDS: '60' }, cwd);
  const key = (await readFile(join(cwd, 'data/admin-key'), 'utf8')).trim();
  const response = await fetch(`${program.url}/api/claude/stream`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: scripted([{ text: 'A slow but certain answer.', rate: 5 }]), timeout: 300 }),
  });
  const body: string[] = [];
  for await (const chunk of response.body!) {
    if (body.length === 0) program.signal('SIGTERM');
    body.push(Buffer.from(chunk as Uint8Array).toString());
  }
  assert.match(body.join(''), /"stop_reason":"end_turn"/u);
  assert.equal(await program.exited, 0);
});
