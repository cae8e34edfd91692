import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Step } from '@sallyport/simulator';
import { allow, startClaude } from './claude.ts';

const limit = { timeout: 30_000 };
const schema = { type: 'object', properties: { a: { type: 'number' } }, required: ['a'], additionalProperties: false };

async function run(steps: Step[], stopAfterBatch = false) {
  const asked: string[] = [];
  const responses: unknown[] = [];
  const claude = await startClaude(
    { steps },
    {
      tools: [],
      permissionMode: 'dontAsk',
      outputFormat: { type: 'json_schema', schema },
      hooks: {
        PreToolUse: [
          {
            hooks: [
              async (input) => {
                if (input.hook_event_name === 'PreToolUse') asked.push(input.tool_name);
                return allow;
              },
            ],
          },
        ],
        PostToolBatch: [
          {
            hooks: [
              async (input) => {
                if (input.hook_event_name === 'PostToolBatch') {
                  responses.push(...input.tool_calls.map((call) => call.tool_response));
                }
                return stopAfterBatch ? { continue: false } : {};
              },
            ],
          },
        ],
      },
    },
  );
  try {
    claude.send('go');
    const { result } = await claude.turn();
    const value = result.subtype === 'success' ? result.structured_output : undefined;
    return { asked, responses, value, subtype: result.subtype, end: result.terminal_reason };
  } finally {
    await claude.close();
  }
}

test('a structured answer is a tool call that passes our hook, and ends the turn', limit, async () => {
  for (const stop of [false, true]) {
    const { asked, responses, ...rest } = await run([{ structured: { a: 1 } }, { text: 'never' }], stop);
    assert.deepEqual([asked, responses], [['StructuredOutput'], ['Structured output provided successfully']]);
    assert.deepEqual(rest, { value: { a: 1 }, subtype: 'success', end: 'completed' });
  }
});

test('an answer in words alone is a success without a structured answer', limit, async () => {
  const { value, subtype, end } = await run([{ text: 'words' }, { text: 'more words' }]);
  assert.deepEqual([value, subtype, end], [undefined, 'success', 'completed']);
});

test('misfit answers are bounced until the turn is given up', limit, async () => {
  const misfit = Array.from({ length: 8 }, () => ({ structured: { a: 'no' } }));
  const { value, subtype } = await run(misfit);
  assert.deepEqual([value, subtype], [undefined, 'error_max_structured_output_retries']);
});
