import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ask, user } from '../test/raw-client.ts';
import { demoBrain } from './index.ts';
import type { Block, Message, MessagesRequest, Step, Tool } from './index.ts';

type Result = string | { error: string };

const tools = (...names: string[]): Tool[] => names.map((name) => ({ name, input_schema: { type: 'object' } }));

/** Plays a turn: answers each call of the brain with `run` until it calls nothing. Returns all steps. */
function play(prompt: string, request: Partial<MessagesRequest>, run: (name: string, input: string) => Result): Step[] {
  const messages: Message[] = [user(prompt)];
  const steps: Step[] = [];
  for (let number = 0; number < 12; number++) {
    const step = demoBrain(ask([...messages], request));
    steps.push(step);
    if (!step.tools) return steps;
    const calls = step.tools.map((call, index) => ({ ...call, type: 'tool_use', id: `id-${number}-${index}` }));
    messages.push({ role: 'assistant', content: calls });
    const results: Block[] = calls.map((call) => {
      const result = run(call.name, Object.values(call.input as Record<string, string>).join(' '));
      const failed = typeof result !== 'string';
      return { type: 'tool_result', tool_use_id: call.id, content: failed ? result.error : result, is_error: failed };
    });
    messages.push(user(results.toReversed()));
  }
  throw new Error('the brain does not stop');
}

const called = (steps: Step[]) =>
  steps.map((step) => (step.tools ?? []).map((call) => Object.values(call.input as object)[0]));
const text = (steps: Step[]) => steps.at(-1)?.text ?? '';

const listing = (paths: string[]) => (name: string) =>
  name === 'Glob' ? paths.join('\n') : '1\tfirst\n2\tsecond\n3\t';

test('it lists, reads at most three fitting files at once, and answers', () => {
  const paths = ['src/engine.ts', 'src/engine/turns.ts', 'docs/engine.md', 'engine.png', 'lib/engine.js', 'README.md'];
  const steps = play('Explain the engine', { tools: tools('Glob', 'Read') }, listing(paths));
  assert.deepEqual(called(steps), [['**/*'], ['docs/engine.md', 'lib/engine.js', 'src/engine.ts'], []]);
  assert.match(text(steps), /6 files/);
  assert.match(text(steps), /`docs\/engine\.md` has 2 lines and begins with "first"/);
});

test('it makes one call per answer where parallel calls are disabled', () => {
  const request = {
    tools: tools('Glob', 'Grep', 'Read'),
    tool_choice: { type: 'auto', disable_parallel_tool_use: true },
  };
  const run = (name: string, input: string) =>
    name === 'Grep' ? 'Found 1 file\nb.ts' : listing(['a.md', 'b.ts'])(name + input.slice(0, 0));
  const steps = play('Read a.md and look for `needle`', request, run);
  assert.deepEqual(called(steps), [['**/*'], ['needle'], ['a.md'], ['b.ts'], []]);
});

test('it uses no tool that is not offered or not allowed', () => {
  assert.match(text(play('hi', {}, () => '')), /No tools are offered/);
  assert.match(text(play('hi', { tools: tools('Bash', 'Write') }, () => '')), /only Bash, Write/);
  const none = { tools: tools('Glob', 'Read'), tool_choice: { type: 'none' } };
  assert.match(text(play('hi', none, () => '')), /No tools are offered/);
  const globOnly = play('hi', { tools: tools('Glob') }, listing(['a.md']));
  assert.deepEqual(called(globOnly), [['**/*'], []]);
});

test('without Glob, or where it is denied, it tries the usual names and reports what failed', () => {
  const run = (_name: string, input: string): Result =>
    input === 'README.md' ? '1\tTitle' : { error: '<tool_use_error>File does not exist. Note: more.</tool_use_error>' };
  const steps = play('hi', { tools: tools('Read') }, run);
  assert.deepEqual(called(steps), [['README.md', 'package.json'], []]);
  assert.match(text(steps), /`README\.md` has 1 line and begins with "Title"/);
  assert.match(text(steps), /Read of `package\.json` did not work: File does not exist\.\n/);
  const denied = play('hi', { tools: tools('Glob', 'Read') }, () => ({ error: 'Denied by rule. Do not retry.' }));
  assert.deepEqual(called(denied), [['**/*'], ['README.md', 'package.json'], []]);
  assert.match(text(denied), /Glob of .* did not work: Denied by rule\.\n/);
});

test('it understands cut listings, absolute paths, empty files and long lines', () => {
  const note =
    '(Showing 100 of 156 matching files; 56 more are not listed. Narrow the pattern or path to see the rest.)';
  const run = (name: string, input: string): Result => {
    if (name === 'Glob') return `/srv/place/notes/long.md\n/srv/place/notes/empty.md\n${note}`;
    if (input.endsWith('empty.md'))
      return '<system-reminder>Warning: the file exists but the contents are empty.</system-reminder>';
    return `     1→${'x'.repeat(500)}\n     2→about notes`;
  };
  const system = [{ type: 'text', text: ' - Primary working directory: /srv/place\n - Platform: linux' }];
  const steps = play('what do the notes say', { tools: tools('Glob', 'Read'), system }, run);
  assert.deepEqual(called(steps)[1], ['/srv/place/notes/empty.md', '/srv/place/notes/long.md']);
  assert.match(text(steps), /156 files, of which Glob showed 2/);
  assert.match(text(steps), /`notes\/empty\.md` is empty/);
  assert.match(text(steps), /`notes\/long\.md` has 2 lines and begins with "x{160}…"\. .*"about notes"/);
});

test('it reads no secrets and media unless they are named', () => {
  const paths = ['.env', 'id_rsa', 'logo.png', 'server.pem', 'note.txt'];
  const run = listing(paths);
  assert.deepEqual(called(play('what is here?', { tools: tools('Glob', 'Read') }, run))[1], ['note.txt']);
  assert.deepEqual(called(play('show server.pem', { tools: tools('Glob', 'Read') }, run))[1], ['server.pem']);
});

test('it gives a structured output once, and words when that was refused', () => {
  const output = { name: 'StructuredOutput', input_schema: { type: 'object', properties: { n: { type: 'integer' } } } };
  const offered = { tools: [...tools('Glob'), output] };
  const steps = play('hi', offered, listing(['a', 'b']));
  assert.deepEqual(steps.at(-1), { structured: { n: 0 } });
  const refused: Message[] = [
    user('hi'),
    { role: 'assistant', content: [{ type: 'tool_use', id: 'x', name: 'Glob', input: { pattern: '**/*' } }] },
    user([{ type: 'tool_result', tool_use_id: 'x', content: 'No files found' }]),
    { role: 'assistant', content: [{ type: 'tool_use', id: 'y', name: 'StructuredOutput', input: {} }] },
    user([{ type: 'tool_result', tool_use_id: 'y', content: '/n: must be odd', is_error: true }]),
  ];
  const step = demoBrain(ask(refused, offered));
  assert.match(step.text ?? '', /could not make a value.*must be odd/);
});
