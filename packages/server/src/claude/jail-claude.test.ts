import { query, type Options, type SDKMessage, type SDKUserMessage } from '@anthropic-ai/claude-agent-sdk';
import { startSimulator, type Step } from '@sallyport/simulator';
import assert from 'node:assert/strict';
import { chmod, chown, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { leftOut } from '../../../../test/support/needs.ts';
import { claudeExecutable } from './executable.ts';
import { freshDirectory, isRoot, nap, pidsWith, startJails, until } from './jail-support.ts';
import type { Jail, JailProfile, Jails, JailsOptions } from './jail.ts';

const token = 'canary-token-5d1e';
const within = { timeout: 90_000 };

/** Jails for real Claude Code, whose broker socket leads to a simulator that plays the steps. */
async function setUp(t: TestContext, steps: Step[], options: Partial<JailsOptions> = {}) {
  const simulator = await startSimulator({ script: { steps } });
  t.after(() => simulator.close());
  const jails = await startJails(t, { claudeBinary: claudeExecutable(), ...options });
  const socket = join(jails.runDir, 'broker/api.sock');
  const connections: unknown[] = [];
  const forwarder = createServer((near) => {
    connections.push(near);
    const far = connect(Number(new URL(simulator.url).port), '127.0.0.1');
    near.pipe(far).pipe(near);
    near.on('error', () => far.destroy());
    far.on('error', () => near.destroy());
  }).listen(socket);
  await new Promise((resolve) => forwarder.once('listening', resolve));
  await chmod(socket, 0o666);
  t.after(() => forwarder.close());
  return { jails, simulator, connections };
}

/** Runs one prompt in the jail and gives the results of its tools and its last text. */
async function ask(jail: Jail, profile: JailProfile, options: Options = {}) {
  const done = Promise.withResolvers<void>();
  async function* prompt(): AsyncGenerator<SDKUserMessage> {
    yield { type: 'user', message: { role: 'user', content: 'go' }, parent_tool_use_id: null };
    await done.promise;
  }
  const errors: string[] = [];
  const session = query({
    prompt: prompt(),
    options: {
      cwd: jail.root,
      env: {
        ...jail.env,
        ANTHROPIC_API_KEY: token,
        CLAUDE_CODE_MAX_RETRIES: '0',
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
        DISABLE_TELEMETRY: '1',
      },
      pathToClaudeCodeExecutable: jail.claudeExecutable,
      spawnClaudeCodeProcess: (how) => {
        const child = jail.spawn(how);
        child.stderr.on('data', (data: Buffer) => errors.push(String(data)));
        return child;
      },
      ...(jail.sandbox ? { sandbox: jail.sandbox } : {}),
      settingSources: [],
      strictMcpConfig: true,
      tools: profile.bash ? ['Read', 'Write', 'Bash'] : ['Read', 'Write'],
      permissionMode: 'default',
      model: 'sallyport-simulator',
      hooks: {
        PreToolUse: [
          {
            hooks: [async () => ({ hookSpecificOutput: { hookEventName: 'PreToolUse', permissionDecision: 'allow' } })],
          },
        ],
      },
      ...options,
    },
  });
  const results: string[] = [];
  let text: string | null = null;
  try {
    for await (const message of session) {
      results.push(...toolResults(message));
      if (message.type === 'result') {
        text = message.subtype === 'success' ? message.result : message.subtype;
        done.resolve();
      }
    }
  } finally {
    done.resolve();
    session.close();
    jail.kill();
    await jail.exited;
  }
  return { results, text, errors: errors.join('') };
}

function toolResults(message: SDKMessage): string[] {
  if (message.type !== 'user' || typeof message.message.content === 'string') return [];
  return message.message.content.flatMap((block) => {
    if (block.type !== 'tool_result') return [];
    return [typeof block.content === 'string' ? block.content : JSON.stringify(block.content)];
  });
}

const bash = (command: string, more: object = {}): Step => ({ tools: [{ name: 'Bash', input: { command, ...more } }] });
const slot = { projectPath: null, access: 'rw', bash: true } as const;

async function openAndAsk(jails: Jails, profile: JailProfile, options: Options = {}) {
  const jail = await jails.open(profile);
  return { jail, ...(await ask(jail, profile, options)) };
}

describe('Claude Code in a jail', { skip: leftOut('jail', ['bwrap', 'socat']), concurrency: 1 }, () => {
  test('starts, uses its tools in the slot and answers', within, async (t) => {
    const { jails, connections } = await setUp(t, [
      { tools: [{ name: 'Write', input: { file_path: '/workspace/new.txt', content: 'written' } }] },
      bash('cat new.txt; echo; echo more >> new.txt && wc -l < new.txt; id -u'),
      { tools: [{ name: 'Read', input: { file_path: '/etc/shadow' } }] },
      { text: 'finished' },
    ]);
    const jail = await jails.open(slot);
    const { results, text, errors } = await ask(jail, slot);
    assert.equal(text, 'finished', errors);
    assert.match(results[1]!, /^written\n1\n\d+$/, errors);
    assert.match(results[2]!, /does not exist/);
    assert.equal(await readFile(join(jail.hostRoot, 'new.txt'), 'utf8'), 'writtenmore\n');
    assert.ok(connections.length > 0);
  });

  test(
    'Bash reaches neither the broker nor the token, not even when it asks to leave its sandbox',
    within,
    async (t) => {
      const socket = '$ANTHROPIC_UNIX_SOCKET';
      const attempts = [
        `curl -sS -m 5 --unix-socket ${socket} http://localhost/v1/models && echo REACHED`,
        `socat -u UNIX-CONNECT:${socket} STDOUT && echo REACHED`,
        `perl -e 'use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0) && connect(S, sockaddr_un($ENV{ANTHROPIC_UNIX_SOCKET})) && print "REACHED"'`,
        `unshare -Ur socat -u UNIX-CONNECT:${socket} STDOUT && echo REACHED`,
        `env; cat /proc/[0-9]*/environ | tr '\\0' '\\n'; ls -l ${socket}`,
      ].join('\n');
      const { jails, simulator, connections } = await setUp(t, [
        bash(attempts),
        bash(`${attempts}\necho again`, { dangerouslyDisableSandbox: true }),
        { text: 'finished' },
      ]);
      const { results, text, errors } = await openAndAsk(jails, slot);
      assert.equal(text, 'finished', errors);
      for (const result of results) {
        assert.ok(/Couldn't connect/.test(result) && /not permitted/.test(result), 'the attempts were made');
        assert.ok(result.includes('SALLYPORT_PROCESS='), 'the environment was shown');
        assert.ok(!result.includes('REACHED'), 'no attempt may reach the socket');
        assert.ok(!result.includes(token), 'the token may not be seen');
      }
      assert.ok(results[1]!.includes('again'));
      assert.equal(simulator.requests.filter((request) => request.path.includes('models')).length, 0);
      assert.ok(connections.length >= 1);
    },
  );

  test('a project is worked on in place, and nothing but what was asked for is left there', within, async (t) => {
    const parent = await freshDirectory(t);
    const path = join(parent, 'project');
    await mkdir(path);
    await writeFile(join(path, 'package.json'), '{}');
    const user = isRoot ? 12345 : process.getuid!();
    for (const each of [path, join(path, 'package.json')]) await chown(each, user, isRoot ? 12345 : process.getgid!());
    await chmod(parent, 0o700);
    const profile = { projectPath: path, access: 'rw', bash: true } as const;
    const { jails } = await setUp(t, [
      bash('pwd; cat package.json; echo 1 > .env; mkdir sub && echo 2 > sub/file'),
      { tools: [{ name: 'Write', input: { file_path: join(path, 'by-write'), content: '3' } }] },
      { text: 'finished' },
    ]);
    const { jail, results, text, errors } = await openAndAsk(jails, profile);
    assert.equal(text, 'finished', errors);
    assert.match(results[0]!, new RegExp(`^${path}\n{}`));
    await jail.remove();
    assert.deepEqual((await readdir(path, { recursive: true })).sort(), [
      '.env',
      'by-write',
      'package.json',
      'sub',
      'sub/file',
    ]);
    assert.equal((await stat(join(path, 'sub/file'))).uid, user);
  });

  test('a read-only project can be read and run in, and is not changed', within, async (t) => {
    const path = await freshDirectory(t);
    await writeFile(join(path, 'read.me'), 'hello');
    const profile = { projectPath: path, access: 'ro', bash: true } as const;
    const { jails } = await setUp(t, [
      { tools: [{ name: 'Read', input: { file_path: join(path, 'read.me') } }] },
      bash('cat read.me; touch new'),
      { tools: [{ name: 'Write', input: { file_path: join(path, 'new'), content: '3' } }] },
      { text: 'finished' },
    ]);
    const { results, text, errors } = await openAndAsk(jails, profile);
    assert.equal(text, 'finished', errors);
    assert.match(results[0]!, /hello/);
    assert.match(results[1]!, /hello[^]*Read-only/);
    assert.match(results[2]!, /EROFS|read-only/i);
    assert.deepEqual(await readdir(path), ['read.me']);
  });

  test('killed in the middle of a command it leaves no process', within, async (t) => {
    const { jails } = await setUp(t, [bash(`setsid sleep ${nap(625)} & sleep ${nap(625)}`)]);
    const jail = await jails.open(slot);
    const asked = ask(jail, slot).then(() => 'ended well', String);
    await until('the command runs', async () => (await pidsWith(nap(625))).length >= 2);
    jail.kill();
    await jail.exited;
    assert.deepEqual(await pidsWith(jail.id), []);
    assert.match(await asked, /SIGKILL|terminated|exited/);
  });
});

test('Claude Code without walls runs in its slot, as a user of its own where we are root', within, async (t) => {
  const { jails } = await setUp(
    t,
    [{ tools: [{ name: 'Write', input: { file_path: 'new.txt', content: 'x' } }] }, { text: 'finished' }],
    { setting: 'none' },
  );
  const profile = { ...slot, bash: false };
  const { jail, text, errors } = await openAndAsk(jails, profile);
  assert.equal(text, 'finished', errors);
  const { uid } = await stat(join(jail.hostRoot, 'new.txt'));
  assert.equal(uid === process.getuid!(), !isRoot);
  await jail.remove();
  assert.deepEqual(await readdir(join(jails.runDir, 'jails')), []);
});
