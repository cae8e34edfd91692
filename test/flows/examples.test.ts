import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readdir, readFile, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import type { Step } from '@sallyport/simulator';
import { untilGone } from '../support/commands.ts';
import { leftOut } from '../support/needs.ts';
import { leftOutWithoutPostgres } from '../support/postgres.ts';
import { processesWith } from '../support/processes.ts';
import { scripted } from '../support/runs.ts';
import { startProgram, unlimited } from '../support/service.ts';

const repository = join(import.meta.dirname, '../..');

/** Starts an example as a newcomer would, but that what it makes is found in a directory of its own. */
async function started(context: TestContext, name: string) {
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'sp-run-')));
  await chmod(directory, 0o755); // The jail's user has to be able to enter it.
  const child = spawn(process.execPath, [join(repository, 'examples', name)], {
    cwd: directory,
    env: { PATH: process.env['PATH'], TMPDIR: directory },
  });
  context.after(async () => {
    child.kill('SIGKILL');
    await rm(directory, { recursive: true, force: true });
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const ended = once(child, 'close').then(([code]) => code as number | null);
  return { child, directory, ended, output: () => output };
}

/** Runs an example to its end, which must be a good one, and gives what it showed. */
async function shownBy(context: TestContext, name: string): Promise<string> {
  const { directory, ended, output } = await started(context, name);
  assert.equal(await ended, 0, output());
  await assertNothingLeft(directory);
  return output();
}

async function assertNothingLeft(directory: string): Promise<void> {
  await untilGone(() => processesWith(directory));
  assert.deepEqual(await readdir(directory), []);
}

/** The texts come in this order. */
function assertInOrder(text: string, ...parts: readonly RegExp[]): void {
  let rest = text;
  for (const part of parts) {
    const found = part.exec(rest);
    assert.ok(found, `${part} does not come where it should: ${text}`);
    rest = rest.slice(found.index + found[0].length);
  }
}

test('the example of a conversation runs: edits are decided, a kill loses nothing, git agrees', async (context) => {
  const shown = await shownBy(context, 'conversation.ts');
  assertInOrder(
    shown,
    /^You: What does this project do\?/mu,
    /^ {2}\[Read src\/greet\.js\]$/mu,
    /^It greets the name on its command line\./mu,
    /^ {2}Claude asks to use Edit:$/mu,
    /^ {2}\| \+export function greet\(name = 'world'\) \{$/mu,
    /^ {2}You: allow\n {2}\[Edit src\/greet\.js\]$/mu,
    /^ {2}Server (\d+) was killed\.\n {2}Server (?!\1)\d+ runs on the same data\. We read on after cursor \d+\.0\.$/mu,
    /^ {2}You: allow\n {2}\[Edit src\/greet\.js\]\nEvery greeting now ends/mu,
    /^ {2}Claude asks to use Write:$/mu,
    /^ {2}You: deny\. No new file, please\./mu,
    /^ {2}\| \+Says hello, to the wrold if you give no name\.\n {2}You make it: Says hello, to the world/mu,
    /^Changed, by the service's account: README\.md, src\/greet\.js$/mu,
    /^ {2}\| \+Says hello, to the world if you give no name\.$/mu,
    /^Changed, by git:$/mu,
    /^ {2}\| \+Says hello, to the world if you give no name\.$/mu,
    /^All is as expected\.$/mu,
  );
});

test('the example of a WebSocket runs: the text is whole over a dropped connection, git agrees', async (context) => {
  const shown = await shownBy(context, 'socket.ts');
  assertInOrder(
    shown,
    /^ {2}Claude asks to use Edit:$/mu,
    /^ {2}You: allow\n {2}\[Edit src\/greet\.js\]$/mu,
    /^ {2}The connection is gone after \d+ characters, at cursor \d+\.[1-9]\d*\.$/mu,
    /Reason 12: people like to be greeted\. $/mu,
    /^The answer of \d+ characters is whole\.$/mu,
    /^ {2}\| \+ {2}return 'Welcome ' \+ name;$/mu,
    /^All is as expected\.$/mu,
  );
});

const needs =
  leftOutWithoutPostgres('the example of a cluster') || leftOut('the example of a cluster', ['redis-server', 'nginx']);

test(
  'the example of a cluster runs: a node is killed, and the other one ends its answer',
  { skip: needs },
  async (context) => {
    const shown = await shownBy(context, 'cluster/run.ts');
    assertInOrder(
      shown,
      /^Node a is process \d+ at \S+$/mu,
      /^Node b is process \d+ at \S+$/mu,
      /^ {2}\[Edit\]\nYour notes say Rome now\.$/mu,
      /^ {2}kill -9 \d+: that node is gone, \d+ characters into its answer\.$/mu,
      /Day 10: one more church, and one more ice\. $/mu,
      /^ {2}\[Read\]\nRome, in March\.$/mu,
      /^The model was told all that was said/mu,
      /^All is as expected\.$/mu,
    );
  },
);

test('an example that is ended in its middle leaves nothing', async (context) => {
  const { child, directory, ended, output } = await started(context, 'conversation.ts');
  while (!output().includes('[Read')) await once(child.stdout, 'data');
  child.kill('SIGTERM');
  assert.equal(await ended, 1, output());
  await assertNothingLeft(directory);
});

const guide = await readFile(join(repository, 'docs/guide/conversations.md'), 'utf8');
const blocksOf = (language: string) =>
  [...guide.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, 'gmsu'))].map(([, block = '']) => block);

/** What the simulated model does about the guide's prompts that a model has to understand. */
const understood: Readonly<Record<string, readonly Step[]>> = {
  'Correct the spelling.': [
    { tools: [{ name: 'Read', input: { file_path: 'notes.md' } }] },
    { tools: [{ name: 'Edit', input: { file_path: 'notes.md', old_string: 'mlik', new_string: 'milk' } }] },
    { text: 'Corrected.' },
  ],
};

test('every command of the guide works as it stands, one after the other', async (context) => {
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'sp-guide-')));
  await chmod(directory, 0o755); // The jail's user has to be able to enter it.
  const env = { ...unlimited, SALLYPORT_PORT: '0', SALLYPORT_RUN_DIR: join(directory, 'run') };
  const program = await startProgram(env, directory);
  context.after(async () => {
    program.signal('SIGTERM');
    await program.exited;
    await rm(directory, { recursive: true, force: true });
  });
  const [variables = '', ...blocks] = blocksOf('sh').map((block) =>
    Object.entries(understood).reduce(
      (text, [words, steps]) => text.replace(JSON.stringify(words), () => JSON.stringify(scripted(steps, words))),
      block.replaceAll('http://127.0.0.1:8000', program.url),
    ),
  );
  const shell = async (script: string) => {
    const args = ['-euo', 'pipefail', '-c', `${variables}\n${script}`];
    return (await promisify(execFile)('bash', args, { cwd: directory })).stdout;
  };
  const shown: string[] = [];
  for (const block of blocks) {
    shown.push(await shell(block));
    if (block.includes('-X DELETE')) continue;
    while (!(await shell('curl -s "$api/conversation/demo/info" -H "$key"')).includes('"status":"idle"'));
  }
  const [started = '', streamed = '', asked = '', repeated = '', read = ''] = shown;
  assertInOrder(started, /"success":true.*"message_count"/u, /"success":true.*"new_messages"/u, /"items":\[/u);
  assertInOrder(streamed, /"is_complete":true/u, /^data: \[DONE\]$/mu, /^id: 2\.0$/mu, /^data: \[DONE\]$/mu);
  assertInOrder(asked, /"status":"waiting"/u, /\+Buy milk\./u, /"status":"pending"/u, /"status":"allowed"/u);
  assert.equal(repeated.match(/HTTP\/1\.1 200 /gu)?.length, 2, repeated);
  assertInOrder(repeated, /"success":true/u, /^idempotency-replayed: true\r$/mu, /"success":true/u);
  assertInOrder(read, /\+Buy milk\./u, /"notes\.md"/u, /# Notes\n\nBuy milk\.\n/u, /"session_id":"demo-2"/u);
  assertInOrder(read, /"interrupted":false/u, /"message":/u);
  assert.equal((await readFile(join(directory, 'demo.zip'))).subarray(0, 2).toString(), 'PK');
});

test('what the guide shows of the examples is in them', async () => {
  const files = ['lib/answer.ts', 'lib/socket.ts'].map((name) => readFile(join(repository, 'examples', name), 'utf8'));
  const plain = (text: string) => text.replaceAll(/^ +/gmu, '');
  const examples = plain((await Promise.all(files)).join('\n'));
  const blocks = blocksOf('ts');
  assert.ok(blocks.length > 0);
  for (const block of blocks) assert.ok(examples.includes(plain(block)), block);
});
