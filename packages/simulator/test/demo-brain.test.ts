import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { query } from '@anthropic-ai/claude-agent-sdk';
import type { Options, SDKResultMessage, SDKUserMessage } from '@anthropic-ai/claude-agent-sdk';
import { startSimulator } from '../src/index.ts';
import type { Simulator } from '../src/index.ts';

let simulator: Simulator;
let home: string;

before(async () => {
  home = await realpath(await mkdtemp(join(tmpdir(), 'simulator-test-')));
  simulator = await startSimulator();
});

after(async () => {
  await simulator.close();
  await rm(home, { recursive: true, force: true });
});

const random = () => randomBytes(6).toString('hex');

/** A new directory with these files; the keys are paths. */
async function workspace(files: Record<string, string>): Promise<string> {
  const directory = await mkdtemp(join(home, 'workspace-'));
  for (const [path, content] of Object.entries(files)) {
    await mkdir(join(directory, path, '..'), { recursive: true });
    await writeFile(join(directory, path), content);
  }
  return directory;
}

/** Runs one turn of the real Claude Code against the simulator. */
async function ask(prompt: string, cwd: string, options: Options = {}): Promise<SDKResultMessage> {
  const config = await mkdtemp(join(home, 'config-'));
  let finish = () => {};
  const finished = new Promise<void>((resolve) => (finish = resolve));
  async function* input(): AsyncGenerator<SDKUserMessage> {
    const message = { role: 'user' as const, content: prompt };
    yield { type: 'user', message, parent_tool_use_id: null, client_composed: true };
    await finished;
  }
  const conversation = query({
    prompt: input(),
    options: {
      cwd,
      env: {
        PATH: process.env['PATH'],
        HOME: home,
        CLAUDE_CONFIG_DIR: config,
        ANTHROPIC_BASE_URL: simulator.url,
        ANTHROPIC_API_KEY: 'simulated',
        CLAUDE_CODE_MAX_RETRIES: '1',
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
        CLAUDE_CODE_DISABLE_AUTO_MEMORY: '1',
        CLAUDE_CODE_DISABLE_BACKGROUND_TASKS: '1',
        DISABLE_TELEMETRY: '1',
        DISABLE_AUTOUPDATER: '1',
      },
      settingSources: [],
      strictMcpConfig: true,
      tools: ['Read', 'Glob', 'Grep'],
      permissionMode: 'dontAsk',
      ...options,
    },
  });
  try {
    for await (const message of conversation) if (message.type === 'result') return message;
    throw new Error('Claude Code ended without a result');
  } finally {
    finish();
    conversation.close();
  }
}

function textOf(result: SDKResultMessage): string {
  assert.equal(result.subtype, 'success');
  assert.equal(result.is_error, false);
  return result.result;
}

test('the demo brain reads the files a prompt is about and quotes what is really in them', async () => {
  const [topic, first, second, other, hidden] = [random(), random(), random(), random(), random()];
  const cwd = await workspace({
    [`docs/${topic}.md`]: `${first}\nmore\n${second}\n`,
    [`src/${other}.txt`]: `${hidden}\n`,
    'empty.txt': '',
  });
  const answer = textOf(await ask(`What does ${topic}.md say?`, cwd));
  assert.match(answer, /simulated model, not Claude/);
  assert.match(answer, /3 files/);
  assert.ok(answer.includes(`\`docs/${topic}.md\` has 3 lines and begins with "${first}"`), answer);
  assert.ok(!answer.includes(hidden), 'what was not read is not quoted');
});

test('the demo brain reads some files, and counts all, when the prompt names none', async () => {
  const files = Object.fromEntries(Array.from({ length: 5 }, () => [`${random()}.txt`, `${random()}\n${random()}`]));
  const answer = textOf(await ask('Hello, what is here?', await workspace(files)));
  assert.match(answer, /5 files/);
  const quoted = Object.entries(files).filter(([name, content]) => {
    return answer.includes(`\`${name}\` has 2 lines and begins with "${content.split('\n')[0]}"`);
  });
  assert.equal(quoted.length, 3, answer);
});

test('the demo brain searches for a quoted identifier and reads the file that has it', async () => {
  const [name, file] = [`fn_${random()}`, random()];
  const cwd = await workspace({ [`lib/${file}.js`]: `// ${file}\nfunction ${name}() {}\n`, 'README.md': '# Hi\n' });
  const answer = textOf(await ask(`Where is \`${name}\` used?`, cwd));
  assert.ok(answer.includes(`found in 1 file: \`lib/${file}.js\``), answer);
  assert.ok(answer.includes(`\`lib/${file}.js\` has 2 lines and begins with "// ${file}"`), answer);
});

test('the demo brain says what is missing: files, tools, permission', async () => {
  const empty = await workspace({});
  assert.match(textOf(await ask('Look around', empty)), /there is no file/);
  assert.match(textOf(await ask('Look around', empty, { tools: [] })), /No tools are offered/);
  const denied = await ask('Look around', await workspace({ 'a.txt': 'a' }), {
    hooks: {
      PreToolUse: [
        {
          hooks: [
            async () => ({
              hookSpecificOutput: {
                hookEventName: 'PreToolUse',
                permissionDecision: 'deny',
                permissionDecisionReason: 'Not today.',
              },
            }),
          ],
        },
      ],
    },
  });
  assert.match(textOf(denied), /Glob of `\*\*\/\*` did not work: .*Not today/);
});

test('the demo brain gives a structured output that fits the schema and states facts', async () => {
  const [name, content] = [`${random()}.txt`, random()];
  const schema = {
    type: 'object',
    properties: {
      summary: { type: 'string' },
      file_count: { type: 'integer', minimum: 1 },
      files: { type: 'array', items: { type: 'string' }, minItems: 1 },
      level: { enum: ['low', 'high'] },
      nested: {
        type: 'object',
        properties: { ok: { type: 'boolean' } },
        required: ['ok'],
        additionalProperties: false,
      },
    },
    required: ['summary', 'file_count', 'files', 'level', 'nested'],
    additionalProperties: false,
  };
  const cwd = await workspace({ [name]: `${content}\n`, 'b.bin': 'b' });
  const result = await ask('Sum up', cwd, { outputFormat: { type: 'json_schema', schema } });
  assert.equal(result.subtype, 'success');
  const { summary, ...rest } = result.structured_output as { summary: string };
  assert.ok(summary.includes(content));
  assert.deepEqual(rest, { file_count: 2, files: [name], level: 'low', nested: { ok: false } });
});

test('a script in the prompt is played to Claude Code, through a fault, a retry and a cut stream', async () => {
  const [name, content] = [`${random()}.txt`, random()];
  const script = [
    { tools: [{ name: 'Read', input: { file_path: name } }], fault: { kind: 'cut', after_chars: 3 }, fault_times: 1 },
    { text: 'one half ', fault: { kind: 'no_message_stop' } },
    { text: 'and the other' },
  ];
  const before = simulator.requests.length;
  const cwd = await workspace({ [name]: content });
  assert.equal(textOf(await ask(`Do this: <<simulate ${JSON.stringify(script)}>>`, cwd)), 'and the other');
  const requests = simulator.requests.slice(before);
  assert.deepEqual(
    requests.map((request) => request.outcome),
    ['faulted', 'answered', 'faulted', 'answered'],
  );
  assert.ok(JSON.stringify(requests.at(-1)?.body?.messages).includes(content), 'the tool really ran');
});

test('every request of Claude Code came to the one path and was recorded with session and key', () => {
  assert.ok(simulator.requests.length > 10);
  for (const request of simulator.requests) {
    assert.equal(request.path, '/v1/messages?beta=true');
    assert.notEqual(request.outcome, 'pending');
    assert.match(request.sessionId ?? '', /^[0-9a-f-]{36}$/);
    assert.equal(request.headers['x-api-key'], 'simulated');
  }
});
