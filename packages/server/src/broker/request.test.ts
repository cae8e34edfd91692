import assert from 'node:assert/strict';
import { test } from 'node:test';
import { prepareBody } from './request.ts';
import { grant, model, requestBody } from './test-support.ts';

const tools = [{ name: 'Read' }];

function prepare(body: string, singleToolCalls: boolean, counting = false): Record<string, unknown> {
  const prepared = prepareBody(Buffer.from(body), grant({ singleToolCalls }), counting);
  assert.ok('body' in prepared);
  return JSON.parse(prepared.body.toString()) as Record<string, unknown>;
}

test('a body goes up byte for byte', () => {
  const raw = Buffer.from(` { "model" : "${model}", "n": 1.0, "big": 12345678901234567890, "text": "\\u001b[0m" }\n`);
  assert.deepEqual(prepareBody(raw, grant(), false), { body: raw, main: false });
});

test('a call counts when it offers tools, and in a run without tools always', () => {
  const mainOf = (extra: Record<string, unknown>, hasTools: boolean) => {
    const prepared = prepareBody(Buffer.from(requestBody(extra)), grant({ hasTools }), false);
    return 'main' in prepared && prepared.main;
  };
  assert.deepEqual([mainOf({ tools }, true), mainOf({}, true), mainOf({ tools: [] }, true)], [true, false, false]);
  assert.deepEqual([mainOf({}, false), mainOf({ tools: [] }, false)], [true, true]);
});

test('single tool calls are asked for where there are tools', () => {
  const choiceOf = (extra: Record<string, unknown>) => prepare(requestBody(extra), true)['tool_choice'];
  assert.deepEqual(choiceOf({ tools }), { type: 'auto', disable_parallel_tool_use: true });
  assert.deepEqual(choiceOf({ tools, tool_choice: { type: 'any' } }), { type: 'any', disable_parallel_tool_use: true });
  assert.deepEqual(choiceOf({ tools, tool_choice: { type: 'auto', disable_parallel_tool_use: false } }), {
    type: 'auto',
    disable_parallel_tool_use: true,
  });
  assert.deepEqual(choiceOf({ tools, tool_choice: null }), { type: 'auto', disable_parallel_tool_use: true });
  assert.deepEqual(choiceOf({ tools, tool_choice: { type: 'none' } }), { type: 'none' });
  assert.equal(choiceOf({ tools: [] }), undefined);
  assert.equal(choiceOf({}), undefined);
});

test('single tool calls leave the rest of the body as it was', () => {
  const { tool_choice: _choice, ...rest } = prepare(requestBody({ tools, system: 'S', metadata: { a: 1 } }), true);
  assert.deepEqual(rest, JSON.parse(requestBody({ tools, system: 'S', metadata: { a: 1 } })));
});

test('bodies are left alone without single tool calls and when tokens are counted', () => {
  assert.equal(prepare(requestBody({ tools }), false)['tool_choice'], undefined);
  assert.equal(prepare(requestBody({ tools }), true, true)['tool_choice'], undefined);
});

for (const body of [
  requestBody({ model: 'claude-opus-4-5' }),
  requestBody({ model: `${model}-20250929` }),
  requestBody({ model: [model] }),
  requestBody({ model: undefined }),
  'null',
  '[]',
  '"text"',
  '{',
  '',
  `{"model":"${model}","model":"claude-opus-4-5"}`,
]) {
  test(`a body that does not ask for the granted model is refused: ${body.slice(0, 60)}`, () => {
    assert.ok('refused' in prepareBody(Buffer.from(body), grant(), false));
  });
}

test('a body that names two models goes up with the granted one only', () => {
  for (const key of ['model', 'mod\\u0065l', '\\u006dodel']) {
    const raw = Buffer.from(`{"${key}":"claude-opus-4-5","messages":[],"model":"${model}"}`);
    const prepared = prepareBody(raw, grant(), false);
    assert.ok('body' in prepared);
    assert.equal(prepared.body.toString().includes('opus'), false);
  }
});
