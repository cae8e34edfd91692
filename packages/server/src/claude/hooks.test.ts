import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HookEvent, HookInput } from '@anthropic-ai/claude-agent-sdk';
import type { ToolVerdict } from '../engine/ports.ts';
import { createHooks, type HookDuties } from './hooks.ts';

/** Calls a hook as Claude Code does, and says what it decided. */
async function call(event: HookEvent, duties: Partial<HookDuties>, input: object, deadlineMs?: number) {
  const failures: unknown[] = [];
  const all: HookDuties = {
    tools: new Set(['Read', 'Bash']),
    structured: false,
    toolCall: async () => ({ behavior: 'allow' }),
    permit: () => assert.fail('not asked'),
    batchEnded: async () => 'continue',
    failed: (error) => failures.push(error),
    ...duties,
  };
  const hooks = createHooks(() => all, deadlineMs);
  const [matcher] = hooks[event] ?? [];
  const [hook] = matcher?.hooks ?? [];
  assert.ok(hook !== undefined && matcher?.onFailure === 'block' && matcher.matcher === undefined);
  const input_ = { hook_event_name: event, session_id: 's', transcript_path: '', cwd: '/', ...input };
  const answer = await hook(input_ as unknown as HookInput, undefined, { signal: new AbortController().signal });
  const output = answer as {
    continue?: boolean;
    hookSpecificOutput?: { permissionDecision?: string; updatedInput?: object };
  };
  return {
    decision: output.hookSpecificOutput?.permissionDecision,
    goesOn: output.continue !== false,
    failures,
    answer: output,
  };
}

const bash = { tool_name: 'Bash', tool_use_id: 'toolu_1', tool_input: { command: 'ls' } };
const before = (duties: Partial<HookDuties>, input: object = bash, deadlineMs?: number) =>
  call('PreToolUse', duties, input, deadlineMs);

test('only a plain allow lets a tool run', async () => {
  assert.equal((await before({})).decision, 'allow');
  assert.equal((await before({ toolCall: async () => ({ behavior: 'deny', message: 'no' }) })).decision, 'deny');
  assert.equal((await before({ toolCall: async () => ({ behavior: 'ask' }) })).decision, 'ask');
  const nonsense = [undefined, null, {}, true, 'allow', { behavior: 'deny' }, { behavior: 'allow', input: ['ls'] }];
  for (const verdict of nonsense) {
    const { decision, failures } = await before({ toolCall: (async () => verdict) as HookDuties['toolCall'] });
    assert.equal(decision, 'deny', JSON.stringify(verdict));
    assert.equal(failures.length, 1);
  }
});

test('a decision that throws, now or later, or never comes is a denial', async () => {
  const boom = new Error('boom');
  const throwing: HookDuties['toolCall'] = () => {
    throw boom;
  };
  const { decision, goesOn, failures } = await before({ toolCall: throwing });
  assert.deepEqual([decision, goesOn, failures], ['deny', true, [boom]]);
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
  assert.equal((await after(async () => 'continue')).goesOn, true);
  for (const answer of ['stop', undefined, true, ['continue']]) {
    assert.equal((await after(async () => answer)).goesOn, false);
  }
  const thrown = await after(() => {
    throw new Error('boom');
  });
  const rejected = await after(() => Promise.reject(new Error('boom')));
  for (const { goesOn, failures } of [thrown, rejected]) assert.deepEqual([goesOn, failures.length], [false, 1]);
});

test('after a structured answer nobody is asked, after one that was bounced somebody is', async () => {
  const after = async (structured: boolean, response: string) => {
    let asked = false;
    const batchEnded = async (): Promise<'stop'> => {
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

test('without a turn nothing is allowed and nothing goes on', async () => {
  const hooks = createHooks(() => null);
  const { signal } = new AbortController();
  const answer = async (event: 'PreToolUse' | 'PostToolBatch') =>
    await hooks[event]?.[0]?.hooks[0]?.({ hook_event_name: event, ...bash } as unknown as HookInput, undefined, {
      signal,
    });
  assert.match(JSON.stringify(await answer('PreToolUse')), /"permissionDecision":"deny"/);
  assert.match(JSON.stringify(await answer('PostToolBatch')), /"continue":false/);
});

test('an allow with an input has the tool called with that', async () => {
  const { answer } = await before({ toolCall: async () => ({ behavior: 'allow', input: { command: 'pwd' } }) });
  assert.deepEqual(answer.hookSpecificOutput?.updatedInput, { command: 'pwd' });
});

test('a hook of another event decides nothing', async () => {
  const { decision } = await before({}, { ...bash, hook_event_name: 'PostToolUse' });
  assert.equal(decision, 'deny');
});
