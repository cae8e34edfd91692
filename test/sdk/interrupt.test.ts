import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { SDKMessage } from '@anthropic-ai/claude-agent-sdk';
import { allow, startClaude, type Claude } from './claude.ts';

const limit = { timeout: 30_000 };

async function started(t: TestContext, ...args: Parameters<typeof startClaude>): Promise<Claude> {
  const claude = await startClaude(...args);
  t.after(() => claude.close());
  return claude;
}

const isDelta = (message: SDKMessage) =>
  message.type === 'stream_event' && message.event.type === 'content_block_delta';

test(
  'an interrupted text ends in a result, its part is handed over, and the process takes the next message',
  limit,
  async (t) => {
    const claude = await started(t, { steps: [{ text: 'word '.repeat(1000), rate: 50 }] });
    claude.send('go');
    const interrupting: Promise<unknown>[] = [];
    const { messages, result } = await claude.turn((message) => {
      if (isDelta(message) && interrupting.length === 0) interrupting.push(claude.query.interrupt());
    });
    await Promise.all(interrupting);
    assert.deepEqual([result.subtype, result.terminal_reason], ['error_during_execution', 'aborted_streaming']);
    const [partial] = messages.filter((message) => message.type === 'assistant');
    assert.equal(partial?.aborted, true);
    assert.match(JSON.stringify(partial?.message.content), /word/);
    claude.simulator.play({ steps: [{ text: 'again' }] });
    claude.send('and now?');
    const next = await claude.turn();
    assert.equal(next.result.subtype === 'success' && next.result.result, 'again');
  },
);

test('an interrupted tool is ended, and the model is not called again', limit, async (t) => {
  const command = 'sleep 60 & echo $! > pid; wait';
  const claude = await started(
    t,
    { steps: [{ tools: [{ name: 'Bash', input: { command } }] }, { text: 'never' }] },
    { tools: ['Bash'], hooks: { PreToolUse: [{ hooks: [async () => allow] }] } },
  );
  claude.send('go');
  const turn = claude.turn();
  while (!existsSync(join(claude.workspace, 'pid'))) await delay(20);
  await claude.query.interrupt();
  const { result } = await turn;
  assert.equal(result.terminal_reason, 'aborted_tools');
  assert.equal(claude.simulator.requests.length, 1);
});

test('a tool that is allowed after an interrupt does not run', limit, async (t) => {
  let claude: Claude | null = null;
  const hook = async () => {
    await claude?.query.interrupt();
    return allow;
  };
  claude = await started(
    t,
    { steps: [{ tools: [{ name: 'Bash', input: { command: 'touch ran' } }] }, { text: 'never' }] },
    { tools: ['Bash'], hooks: { PreToolUse: [{ hooks: [hook] }] } },
  );
  claude.send('go');
  const { result } = await claude.turn();
  assert.equal(result.terminal_reason, 'aborted_tools');
  assert.equal(existsSync(join(claude.workspace, 'ran')), false);
});

test('a killed process is a thrown error without a result', limit, async (t) => {
  const claude = await started(t, { steps: [{ text: 'word '.repeat(1000), rate: 50 }] });
  claude.send('go');
  const turn = claude.turn((message) => isDelta(message) && claude.child().kill('SIGKILL'));
  await assert.rejects(turn, /SIGKILL/);
});
