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
