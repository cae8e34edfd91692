import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { HookCallback, Options, PermissionMode } from '@anthropic-ai/claude-agent-sdk';
import { createHooks, type HookDuties } from '../../packages/server/src/claude/hooks.ts';
import { allow, startClaude } from './claude.ts';

const limit = { timeout: 30_000 };
const script = {
  steps: [{ tools: [{ name: 'Bash', input: { command: 'touch ran' } }] }, { text: 'done' }],
};
const throwing: HookCallback = async () => {
  throw new Error('boom');
};
const nonsense = (async () => ({
  hookSpecificOutput: { hookEventName: 'PreToolUse', permissionDecision: 'perhaps' },
})) as unknown as HookCallback;

/** Runs the command in a mode that allows it, under the hooks. */
async function run(hooks: NonNullable<Options['hooks']>, permissionMode: PermissionMode = 'acceptEdits') {
  const claude = await startClaude(script, { tools: ['Bash'], permissionMode, hooks });
  try {
    claude.send('go');
    const { messages, result } = await claude.turn();
    return {
      ran: existsSync(join(claude.workspace, 'ran')),
      calls: claude.simulator.requests.length,
      messages,
      result,
    };
  } finally {
    await claude.close();
  }
}

test('a hook that throws or answers nonsense lets the tool run', limit, async () => {
  assert.equal((await run({ PreToolUse: [{ hooks: [throwing] }] })).ran, true);
  assert.equal((await run({ PreToolUse: [{ hooks: [nonsense] }] })).ran, true);
});

test('a hook that is told to block does not', limit, async () => {
  assert.equal((await run({ PreToolUse: [{ hooks: [throwing], onFailure: 'block' }] })).ran, false);
  assert.equal((await run({ PreToolUse: [{ hooks: [nonsense], onFailure: 'block' }] })).ran, false);
  const batch = await run({
    PreToolUse: [{ hooks: [async () => allow] }],
    PostToolBatch: [{ hooks: [throwing], onFailure: 'block' }],
  });
  assert.deepEqual([batch.ran, batch.calls, batch.result.terminal_reason], [true, 1, 'hook_stopped']);
});

test('our hooks let nothing run that was not allowed', limit, async () => {
  const hooksFor = (toolCall: HookDuties['toolCall']) => {
    const permit = () => Promise.reject(new Error('not asked'));
    const duties = { tools: new Set(['Bash']), structured: false, toolCall, permit, failed() {} };
    return createHooks(() => ({ ...duties, batchEnded: async () => 'continue' }));
  };
  const broken = hooksFor(() => Promise.reject(new Error('boom')));
  assert.equal((await run(broken)).ran, false);
  const denying = hooksFor(async () => ({ behavior: 'deny', message: 'canary-reason' }));
  const denied = await run(denying);
  assert.equal(denied.ran, false);
  assert.match(JSON.stringify(denied.messages), /canary-reason/);
  const allowing = hooksFor(async () => ({ behavior: 'allow' }));
  assert.equal((await run(allowing)).ran, true);
  assert.equal((await run(allowing, 'dontAsk')).ran, true, 'an allow is stronger than the mode');
});

test('what a hook leaves to a human is asked about in every mode, but a question only in one', limit, async () => {
  const ask: HookCallback = async () => ({
    hookSpecificOutput: { hookEventName: 'PreToolUse', permissionDecision: 'ask' },
  });
  const option = (label: string) => ({ label, description: label });
  const question = { question: 'Which?', header: 'Which', options: [option('A'), option('B')], multiSelect: false };
  const steps = [
    { tools: [{ name: 'Bash', input: { command: 'ls' } }] },
    { tools: [{ name: 'AskUserQuestion', input: { questions: [question] } }] },
    { text: 'done' },
  ];
  for (const permissionMode of ['default', 'dontAsk'] as const) {
    const asked: string[] = [];
    const canUseTool: Options['canUseTool'] = async (name) => {
      asked.push(name);
      return { behavior: 'deny', message: 'no' };
    };
    const hooks = { PreToolUse: [{ hooks: [ask] }] };
    const tools = ['Bash', 'AskUserQuestion'];
    const claude = await startClaude({ steps }, { tools, permissionMode, canUseTool, hooks });
    try {
      claude.send('go');
      await claude.turn();
      assert.deepEqual(asked, permissionMode === 'default' ? tools : ['Bash']);
    } finally {
      await claude.close();
    }
  }
});

test('a stop after a batch ends the turn before the next model call', limit, async () => {
  const { ran, calls, result } = await run({
    PreToolUse: [{ hooks: [async () => allow] }],
    PostToolBatch: [{ hooks: [async () => ({ continue: false, stopReason: 'enough' })] }],
  });
  assert.deepEqual([ran, calls], [true, 1]);
  assert.deepEqual([result.subtype, result.is_error, result.terminal_reason], ['success', false, 'hook_stopped']);
});
