import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ask, user } from '../test/raw-client.ts';
import { readTurn, stepKey } from './conversation.ts';
import type { Message } from './index.ts';

const environment: Message = { role: 'system', content: [{ type: 'text', text: '# Environment\nToday is Monday.' }] };
const reminder = { type: 'text', text: '<system-reminder>\nAttribution.\n</system-reminder>\n' };
const call = (id: string, input: unknown = {}): Message => ({
  role: 'assistant',
  content: [{ type: 'tool_use', id, name: 'Read', input }],
});
const result = (id: string) => ({ type: 'tool_result', tool_use_id: id, content: `result of ${id}` });

test('the prompt is what the user wrote, without reminders and system messages', () => {
  const turn = readTurn(ask([user([reminder, { type: 'text', text: 'hello' }]), environment]));
  assert.deepEqual(turn, { prompt: 'hello', call: 0, toolCalls: [] });
  const interrupted = user([
    { type: 'text', text: '[Request interrupted by user]\n' },
    { type: 'text', text: 'next' },
  ]);
  assert.equal(readTurn(ask([user('a'), interrupted])).prompt, 'next');
});

test('calls of a turn get their results by id, in any order, with errors marked', () => {
  const both: Message = {
    role: 'assistant',
    content: [
      { type: 'text', text: 'reading' },
      { type: 'tool_use', id: 'a', name: 'Read', input: { n: 1 } },
      { type: 'tool_use', id: 'b', name: 'Glob', input: {} },
    ],
  };
  const results = user([{ ...result('b'), is_error: true }, result('a')]);
  const turn = readTurn(ask([user('old'), call('z'), user([result('z')]), user('go'), environment, both, results]));
  assert.equal(turn.prompt, 'go');
  assert.equal(turn.call, 1);
  assert.deepEqual(turn.toolCalls, [
    { name: 'Read', input: { n: 1 }, result: { text: 'result of a', isError: false } },
    { name: 'Glob', input: {}, result: { text: 'result of b', isError: true } },
  ]);
});

test('an image alone begins a turn, beside a tool result it does not', () => {
  const image = { type: 'image', source: { type: 'base64', data: '' } };
  assert.equal(readTurn(ask([user('a'), call('x'), user([result('x')]), user([image])])).call, 0);
  assert.equal(readTurn(ask([user('a'), call('x'), user([result('x'), image])])).call, 1);
});

test('a turn that goes on after a crash is the same turn, wherever Claude Code says so', () => {
  const resumed = { type: 'text', text: 'Continue from where you left off.' };
  const go = { type: 'text', text: 'go' };
  const said: Message = {
    role: 'assistant',
    content: [
      { type: 'text', text: 'reading' },
      { type: 'tool_use', id: 'a', name: 'Read', input: {} },
    ],
  };
  const old = [user('old'), call('z'), user([result('z'), resumed]), { role: 'assistant', content: 'ok' } as const];
  const image = { type: 'image', source: { type: 'base64', data: '' } };
  const bodies: [string, number, Message[]][] = [
    ['beside the prompt', 0, [user([{ type: 'text', text: 'go\n' }, resumed])]],
    ['before and after reminders', 0, [user([reminder, go, resumed, reminder])]],
    ['in a message of its own', 0, [user([go]), environment, user([resumed])]],
    ['beside a result', 1, [user([go]), environment, said, user([result('a'), resumed])]],
    ['before a result', 1, [user([go, resumed]), said, user([resumed, result('a')])]],
    ['beside a result with an image', 1, [user([go]), said, user([result('a'), image, resumed])]],
    ['after a result, alone', 1, [user([go]), said, user([result('a')]), user('Continue from where you left off.\n')]],
    ['twice', 2, [user([go, resumed]), said, user([result('a'), resumed]), call('b'), user([result('b'), resumed])]],
  ];
  for (const [where, number, messages] of bodies) {
    for (const history of [[], old]) {
      const turn = readTurn(ask([...history, ...messages]));
      assert.deepEqual([turn.prompt, turn.call], ['go', number], where);
      assert.equal(turn.toolCalls.length, number, where);
      assert.ok(
        turn.toolCalls.every((each) => each.result !== null),
        where,
      );
    }
  }
  const merged = user([go, resumed, { type: 'text', text: 'next' }]);
  assert.deepEqual(readTurn(ask([merged])), { prompt: 'next', call: 0, toolCalls: [] });
});

test('who begins a prompt with the words of Claude Code has written a prompt', () => {
  const text = 'Continue from where you left off. Then add tests.';
  assert.deepEqual(readTurn(ask([user('a'), call('x'), user([result('x')]), user(text)])).prompt, text);
});

test('retries and resumed calls of a step share a key, other steps and sessions do not', () => {
  const first = ask([user('go'), environment, call('a'), user([{ ...result('a'), cache_control: { type: 'x' } }])]);
  const again = ask(
    [
      user([reminder, { type: 'text', text: 'go\n' }]),
      { role: 'system', content: '# Environment\nToday is Tuesday.' },
      call('a'),
      user([result('a'), { type: 'text', text: 'Continue from where you left off.' }]),
    ],
    { stream: false },
  );
  assert.equal(stepKey(first, 's'), stepKey(again, 's'));
  assert.notEqual(stepKey(first, 's'), stepKey(first, 't'));
  assert.notEqual(stepKey(first, null), stepKey(ask([user('go')]), null));
  assert.notEqual(stepKey(ask([user('go')]), null), stepKey(ask([user('stop')]), null));
  assert.notEqual(stepKey(ask([user('go'), call('a')]), null), stepKey(ask([user('go'), call('b')]), null));
});
