import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HookEvent, HookInput } from '@anthropic-ai/claude-agent-sdk';
import type { ToolVerdict } from '../engine/ports.ts';
import { createHooks, type HookDuties } from './hooks.ts';

/** Calls a hook as Claude Code does, and says what it decided. */
async function call(event: HookEvent, duties: Partial<HookDuties>, input: object, deadlineMs?: number) {
  const failures: unknown[] = [];
  const hooks = createHooks(
    {
      tools: new Set(['Read', 'Bash']),
      structured: false,
      toolCall: async () => ({ behavior: 'allow' }),
      batchEnded: () => 'continue',
      failed: (error) => failures.push(error),
      ...duties,
    },
    deadlineMs,
  );
  const [matcher] = hooks[event] ?? [];
  const [hook] = matcher?.hooks ?? [];
  assert.ok(hook !== undefined && matcher?.onFailure === 'block' && matcher.matcher === undefined);
  const input_ = { hook_event_name: event, session_id: 's', transcript_path: '', cwd: '/', ...input };
  const answer = await hook(input_ as unknown as HookInput, undefined, { signal: new AbortController().signal });
  const output = answer as { continue?: boolean; hookSpecificOutput?: { permissionDecision?: string } };
  return { decision: output.hookSpecificOutput?.permissionDecision, goesOn: output.continue !== false, failures };
}

const bash = { tool_name: 'Bash', tool_use_id: 'toolu_1', tool_input: { command: 'ls' } };
const before = (duties: Partial<HookDuties>, input: object = bash, deadlineMs?: number) =>
  call('PreToolUse', duties, input, deadlineMs);

test('only a plain allow lets a tool run', async () => {
  assert.equal((await before({})).decision, 'allow');
  assert.equal((await before({ toolCall: async () => ({ behavior: 'deny', message: 'no' }) })).decision, 'deny');
  for (const verdict of [undefined, null, {}, true, 'allow', { behavior: 'ask' }, { behavior: 'deny' }]) {
    const { decision, failures } = await before({ toolCall: async () => verdict as unknown as ToolVerdict });
    assert.equal(decision, 'deny', JSON.stringify(verdict));
    assert.equal(failures.length, 1);
  }
});

test('a decision that throws, now or later, or never comes is a denial', async () => {
  const boom = new Error('boom');
  const throwing: HookDuties['toolCall'] = () => {
    throw boom;
  };
  assert.deepEqual(await before({ toolCall: throwing }), { decision: 'deny', goesOn: true, failures: [boom] });
  assert.equal((await before({ toolCall: () => Promise.reject(boom) })).decision, 'deny');
  const silent = await before({ toolCall: () => new Promise(() => {}) }, bash, 20);
  assert.equal(silent.decision, 'deny');
  assert.equal(silent.failures.length, 1);
});

test('a tool that is not of the run is denied without asking', async () => {
  let asked = 0;
  const toolCall = async (): Promise<ToolVerdict> => {
    asked += 1;
    return { behavior: 'allow' };
  };
  for (const name of ['Write', 'Task', 'mcp__x__y', 'StructuredOutput', '']) {
    assert.equal((await before({ toolCall }, { ...bash, tool_name: name })).decision, 'deny', name);
  }
  assert.equal(asked, 0);
  const structured = await before({ toolCall, structured: true }, { ...bash, tool_name: 'StructuredOutput' });
  assert.deepEqual([structured.decision, asked], ['allow', 0]);
});

test('a call without id or input is denied', async () => {
  for (const input of [
    { ...bash, tool_use_id: undefined },
    { ...bash, tool_use_id: '' },
    { ...bash, tool_input: null },
  ]) {
    assert.equal((await before({}, input)).decision, 'deny');
  }
});

test('only continue goes on after a batch', async () => {
  const after = (batchEnded: () => unknown) =>
    call('PostToolBatch', { batchEnded: batchEnded as HookDuties['batchEnded'] }, { tool_calls: [] });
  assert.equal((await after(() => 'continue')).goesOn, true);
  for (const answer of ['stop', undefined, true, Promise.resolve('continue')]) {
    assert.equal((await after(() => answer)).goesOn, false);
  }
  const thrown = await after(() => {
    throw new Error('boom');
  });
  assert.deepEqual([thrown.goesOn, thrown.failures.length], [false, 1]);
});

test('after a structured answer nobody is asked, after one that was bounced somebody is', async () => {
  const after = async (structured: boolean, response: string) => {
    let asked = false;
    const batchEnded = (): 'stop' => {
      asked = true;
      return 'stop';
    };
    const call_ = { tool_name: 'StructuredOutput', tool_input: {}, tool_use_id: 'x', tool_response: response };
    const { goesOn } = await call('PostToolBatch', { structured, batchEnded }, { tool_calls: [call_] });
    return [asked, goesOn];
  };
  assert.deepEqual(await after(true, 'Structured output provided successfully'), [false, true]);
  assert.deepEqual(await after(true, 'Output does not match required schema'), [true, false]);
  assert.deepEqual(await after(false, 'Structured output provided successfully'), [true, false]);
});

test('a hook of another event decides nothing', async () => {
  const { decision } = await before({}, { ...bash, hook_event_name: 'PostToolUse' });
  assert.equal(decision, 'deny');
});
