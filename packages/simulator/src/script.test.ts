import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { ask, content, events, fetchRaw, user } from '../test/raw-client.ts';
import { ScriptError, parseScript, startSimulator } from './index.ts';
import type { Message, Simulator } from './index.ts';

let simulator: Simulator;
before(async () => {
  simulator = await startSimulator({ script: [] as never });
});
beforeEach(() => simulator.reset());
after(() => simulator.close());

const said = async (messages: Message[] | string) => content((await fetchRaw(simulator, ask(messages))).body);

const assistant = (text: string): Message => ({ role: 'assistant', content: [{ type: 'text', text }] });
const called = (id: string): Message => ({
  role: 'assistant',
  content: [{ type: 'tool_use', id, name: 'Read', input: {} }],
});
const returned = (id: string): Message =>
  user([{ type: 'tool_result', tool_use_id: id, content: [{ type: 'text', text: 'ok' }] }]);

test('steps answer the model calls of a turn in order, then the end is told', async () => {
  simulator.play({ steps: [{ text: 'zero' }, { text: 'one' }] });
  const messages = [user('go')];
  assert.equal(await said(messages), 'zero');
  messages.push(called('a'), returned('a'));
  assert.equal(await said(messages), 'one');
  messages.push(called('b'), returned('b'));
  assert.equal(await said(messages), '(end of script)');
});

test('a new user message begins the script again', async () => {
  simulator.play({ steps: [{ text: 'zero' }, { text: 'one' }] });
  const history = [user('go'), called('a'), returned('a'), assistant('done')];
  assert.equal(await said([...history, user('next')]), 'zero');
  assert.equal(await said([...history, user('next'), called('b'), returned('b')]), 'one');
});

test("Claude Code's own texts do not begin the script again", async () => {
  simulator.play({ steps: [{ text: 'zero' }, { text: 'one' }] });
  const notes = [
    '[structured-output-enforce] You MUST call the StructuredOutput tool to complete this request. Call this tool now.',
    'Output token limit hit. Resume directly — no apology.',
    'Your response above was stopped by a safety classifier — this is not a tool or API error.',
    'Your response above was cut off mid-stream. Resume directly from where it stops — no apology, no recap.',
    '<system-reminder>\n[SYSTEM NOTIFICATION - NOT USER INPUT]\n</system-reminder>',
    'Continue from where you left off.',
  ];
  for (const note of notes) assert.equal(await said([user('go'), assistant('half'), user(note)]), 'one', note);
});

test('a script in the prompt is played instead, inline or in several lines', async () => {
  simulator.play({ steps: [{ text: 'played' }] });
  assert.equal(await said('hi <<simulate [{"text":"inline"}] >> there'), 'inline');
  assert.equal(await said('<<simulate {"steps":[{"text":"tight"}]}>>'), 'tight');
  assert.equal(await said('```\n<<simulate\n{\n "steps": [ {"text": "fenced"} ]\n}\n>>\n```\n'), 'fenced');
  assert.equal(await said('no script'), 'played');
});

test('a script in the prompt goes on through the turn and ends with it', async () => {
  const prompt = '<<simulate [{"tools":[{"name":"Read","input":{"file_path":"a"}}]},{"text":"after"}]>>';
  const first = await fetchRaw(simulator, ask(prompt));
  const start = events(first.body).find((event) => event.type === 'content_block_start')?.content_block;
  assert.equal(start?.['name'], 'Read');
  const turn = [user(prompt), called('a'), returned('a')];
  assert.equal(await said(turn), 'after');
  assert.equal(await said([...turn, assistant('after'), user('plain')]), '(end of script)');
});

test('only the newest text a user wrote can hold a script', async () => {
  const old = '<<simulate [{"text":"old"}]>>';
  const merged = user([
    { type: 'text', text: old },
    { type: 'text', text: 'new' },
  ]);
  assert.equal(await said([merged]), '(end of script)', 'a prompt merged with that of a failed turn');
  const result = user([{ type: 'tool_result', tool_use_id: 'a', content: old }]);
  assert.equal(await said([user('go'), called('a'), result]), '(end of script)', 'a tool result');
  assert.equal(await said([user(`${old} and <<simulate [{"text":"last"}]>>`)]), 'last');
});

test('a script may hold a script for a subagent', async () => {
  const inner = '<<simulate [{"text":"inner } ]"}]>>';
  const outer = { steps: [{ tools: [{ name: 'Agent', input: { prompt: inner } }] }] };
  const input = JSON.parse(await said(`<<simulate ${JSON.stringify(outer)}>>`));
  assert.equal(input.prompt, inner);
  assert.equal(await said(inner), 'inner } ]');
});

test('a script in the prompt that cannot be played is answered with the reason', async () => {
  assert.match(await said('<<simulate [{"txt":"a"}]>>'), /cannot be played: script\.steps\[0\]\.txt is not known/);
  assert.match(await said('<<simulate [{"text":"a"}]'), /cannot be played: the closing >> is missing/);
  assert.match(await said('<<simulate nonsense>>'), /cannot be played: /);
  assert.match(await said('<<simulate'), /cannot be played: /);
});

test('a script is checked to the last key, and the mistake is named', () => {
  const mistakes: [unknown, RegExp][] = [
    [5, /^script must be an object$/],
    [{}, /^script\.steps is missing$/],
    [{ steps: [], more: 1 }, /^script\.more is not known/],
    [[{ rate: 0 }], /^script\.steps\[0\]\.rate must be a number above 0$/],
    [[{}, { tools: [{ name: 'a' }] }], /^script\.steps\[1\]\.tools\[0\]\.input is missing$/],
    [[{ blocks: [{ type: 'image' }] }], /blocks\[0\]\.type must be one of text, thinking, tool_use$/],
    [[{ fault: { kind: 'explode' } }], /fault\.kind must be one of status, hang/],
    [[{ fault: { kind: 'status', status: 418 } }], /fault\.status must be one of 400/],
    [[{ fault: { kind: 'cut', after_chars: -1 } }], /fault\.after_chars must be a whole number from 0$/],
    [[{ parallel: 1 }], /parallel must be true or false$/],
    [[{ usage: { tokens: 1 } }], /usage\.tokens is not known/],
    [[{ ['__proto__x']: 1 }], /is not known/],
  ];
  for (const [script, message] of mistakes) {
    assert.throws(
      () => parseScript(script),
      (error: unknown) => error instanceof ScriptError && message.test(error.message) && !error.message.includes('\n'),
      JSON.stringify(script),
    );
    assert.throws(() => simulator.play(script as never), ScriptError);
  }
  const good = {
    steps: [{ fault: { kind: 'cut', after_chars: 3 }, fault_times: 1, structured: null, delay_ms: 1, parallel: true }],
  };
  assert.deepEqual(parseScript(good), good);
  assert.deepEqual(parseScript(good.steps), good);
});
