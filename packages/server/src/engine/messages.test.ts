import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LogEventBody } from '@sallyport/protocol';
import { messagesOf } from './messages.ts';

const history = (...bodies: LogEventBody[]) =>
  messagesOf(bodies.map((body, index) => ({ seq: index + 1, turn: 't', at: index * 1000, body })));
const contents = (...bodies: LogEventBody[]) => history(...bodies).map(({ role, content }) => `${role}:${content}`);

const text = (message_id: string, value: string): LogEventBody => ({ type: 'text', message_id, text: value });
const asked: LogEventBody = { type: 'user_message', text: 'q', message_uuid: 'u' };
const tool = (message_id: string, name: string): LogEventBody => ({
  type: 'tool_start',
  tool_use_id: name,
  message_id,
  name,
  input: {},
  decided_by: 'test',
});

test('an answer of the model is one message, its blocks joined and its tools named once', () => {
  const messages = history(
    asked,
    text('m1', 'a'),
    text('m1', 'b'),
    tool('m1', 'Read'),
    tool('m1', 'Read'),
    text('m2', 'c'),
  );
  assert.deepEqual(
    messages.map(({ content, tools_used }) => [content, tools_used]),
    [
      ['q', []],
      ['ab', ['Read']],
      ['c', []],
    ],
  );
  assert.equal(messages[1]?.timestamp, '1970-01-01T00:00:01.000Z');
});

test('an answer that only calls tools is a message too', () => {
  assert.deepEqual(contents(asked, tool('m1', 'Read'), tool('m2', 'Glob'), text('m3', 'x')), [
    'user:q',
    'assistant:',
    'assistant:',
    'assistant:x',
  ]);
});

test('a restart withdraws the text since the last event of another kind, and no more', () => {
  const restart: LogEventBody = { type: 'restart' };
  assert.deepEqual(contents(asked, text('m1', 'a'), text('m1', 'b'), restart, text('m2', 'ab')), [
    'user:q',
    'assistant:ab',
  ]);
  assert.deepEqual(contents(asked, text('m1', 'a'), tool('m1', 'Read'), text('m2', 'b'), restart, text('m3', 'c')), [
    'user:q',
    'assistant:a',
    'assistant:c',
  ]);
});
