import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HookDuties } from './hooks.ts';
import { createCanUseTool } from './permission.ts';

/** Asks for a permission as Claude Code does. */
async function ask(
  permit: HookDuties['permit'],
  { name = 'Bash', input = { command: 'ls' }, id = 'toolu_1' }: { name?: string; input?: unknown; id?: unknown } = {},
) {
  const failures: unknown[] = [];
  const duties: HookDuties = {
    tools: new Set(['Bash']),
    structured: true,
    toolCall: () => assert.fail('not asked'),
    permit,
    batchEnded: async () => 'stop',
    failed: (error) => failures.push(error),
  };
  const answer = await createCanUseTool(() => duties)(
    name,
    input as Record<string, unknown>,
    { toolUseID: id } as never,
  );
  return { answer, failures };
}

const never = () => assert.fail('not asked');

test('an allow with an input allows that input, a denial tells its own words', async () => {
  const allowed = await ask(async () => ({ behavior: 'allow', input: { command: 'pwd' } }));
  assert.deepEqual(allowed, { answer: { behavior: 'allow', updatedInput: { command: 'pwd' } }, failures: [] });
  const denied = await ask(async () => ({ behavior: 'deny', message: 'no' }));
  assert.deepEqual(denied, { answer: { behavior: 'deny', message: 'no' }, failures: [] });
});

test('whatever else comes is a denial that tells nothing of it, and fails the turn', async () => {
  const cases: (() => unknown)[] = [
    () => Promise.reject(new Error('canary')),
    () => {
      throw new Error('canary');
    },
    ...[undefined, null, {}, true, 'allow', { behavior: 'allow' }, { behavior: 'allow', input: 'canary' }].map(
      (answer) => async () => answer,
    ),
    async () => ({ behavior: 'allow', input: ['canary'] }),
    async () => ({ behavior: 'deny' }),
    async () => ({ behavior: 'ask', message: 'canary' }),
  ];
  for (const permit of cases) {
    const { answer, failures } = await ask(permit as HookDuties['permit']);
    assert.deepEqual([answer?.behavior, failures.length], ['deny', 1]);
    assert.doesNotMatch(JSON.stringify(answer), /canary/);
  }
});

test('without an id, an input, a tool of the run or a turn nothing is allowed', async () => {
  for (const id of ['', undefined, 7]) assert.equal((await ask(never, { id })).failures.length, 1);
  for (const input of [null, 'ls', ['ls']]) assert.equal((await ask(never, { input })).failures.length, 1);
  for (const name of ['Write', 'StructuredOutput']) {
    const { answer, failures } = await ask(never, { name });
    assert.deepEqual([answer?.behavior, failures], ['deny', []]);
  }
  const idle = await createCanUseTool(() => null)('Bash', {}, { toolUseID: 'toolu_1' } as never);
  assert.equal(idle?.behavior, 'deny');
});
