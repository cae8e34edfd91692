import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SDKMessage } from '@anthropic-ai/claude-agent-sdk';
import type { Fault, Script } from '@sallyport/simulator';
import { startClaude } from './claude.ts';

const limit = { timeout: 30_000 };

async function run(script: Script) {
  const claude = await startClaude(script, { tools: [] });
  try {
    claude.send('go');
    const { messages, result } = await claude.turn();
    const bodies = claude.simulator.requests.map(({ body }) => body);
    const retries = messages.filter((message) => message.type === 'system' && message.subtype === 'api_retry');
    return { messages, result, bodies, retries, requests: claude.simulator.requests };
  } finally {
    await claude.close();
  }
}

/** Kinds of the messages between the first and the last event of the stream. */
const kinds = (messages: SDKMessage[]) =>
  messages.flatMap((message) => {
    if (message.type === 'stream_event') {
      const { type } = message.event;
      return type === 'content_block_delta' ? [] : [type];
    }
    return message.type === 'assistant' ? ['assistant'] : [];
  });

test('each block is whole before it is closed, and the message ends with its delta', limit, async () => {
  const { messages } = await run({ steps: [{ thinking: 'hm', text: 'Hello.' }] });
  const block = ['content_block_start', 'assistant', 'content_block_stop'];
  assert.deepEqual(kinds(messages), ['message_start', ...block, ...block, 'message_delta', 'message_stop']);
});

test('a cut stream is tried again once, streamed, and never without streaming', limit, async () => {
  const { result, bodies, retries, messages } = await run({
    steps: [{ text: 'Hello there, you.', chunk: 4, rate: 40, fault: { kind: 'cut', after_chars: 8 } }],
  });
  assert.equal(retries.length, 1);
  assert.deepEqual(
    bodies.map((body) => body?.stream),
    [true, true],
  );
  assert.deepEqual([result.subtype, result.is_error, result.terminal_reason], ['success', true, 'api_error']);
  const words = messages.filter((message) => message.type === 'assistant').map(({ message }) => message.model);
  assert.deepEqual(words, ['<synthetic>']);
});

test('a break after a whole block is no retry: the block stays and the model is asked to go on', limit, async () => {
  const blocks = [
    { type: 'text' as const, text: 'First.' },
    { type: 'text' as const, text: 'Second part.' },
  ];
  const { result, bodies, retries } = await run({
    steps: [{ blocks, fault: { kind: 'error_event', after_chars: 9, error_type: 'api_error' } }, { text: 'Rest.' }],
  });
  assert.equal(retries.length, 0);
  assert.equal(result.subtype === 'success' && result.result, 'Rest.');
  const assistant = bodies[1]?.messages.find(({ role }) => role === 'assistant');
  assert.deepEqual(assistant?.content, [{ type: 'text', text: 'First.' }]);
});

/** Model calls after which a fault is given up. */
async function callsAt(fault: Fault) {
  const { requests, result } = await run({ steps: [{ fault }] });
  assert.equal(result.is_error, true);
  return requests.length;
}

test('what the broker answers finally decides how often Claude Code asks again', limit, async () => {
  assert.equal(await callsAt({ kind: 'status', status: 403 }), 1);
  assert.equal(await callsAt({ kind: 'status', status: 400, message: 'prompt is too long' }), 1);
  // With fewer beta features each time.
  assert.equal(await callsAt({ kind: 'status', status: 400 }), 3);
});
