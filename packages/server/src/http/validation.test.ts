import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultBounds, queryRequest, type ValidationIssue } from '@sallyport/protocol';
import { z } from 'zod';
import { SallyportError } from '../engine/errors.ts';
import { bearer, testApp } from './testing.ts';
import { parsePart } from './validation.ts';

function issuesFor(input: unknown, schema: z.ZodType = queryRequest(defaultBounds)): readonly ValidationIssue[] {
  try {
    parsePart(schema, input, 'body');
  } catch (error) {
    assert.ok(error instanceof SallyportError);
    assert.equal(error.code, 'validation_failed');
    return error.issues ?? [];
  }
  return [];
}

const bad: readonly [unknown, ValidationIssue['loc'], string][] = [
  [{}, ['body', 'prompt'], 'missing'],
  [null, ['body'], 'model_attributes_type'],
  [[], ['body'], 'model_attributes_type'],
  ['x', ['body'], 'model_attributes_type'],
  [{ prompt: 1 }, ['body', 'prompt'], 'string_type'],
  [{ prompt: null }, ['body', 'prompt'], 'string_type'],
  [{ prompt: '' }, ['body', 'prompt'], 'string_too_short'],
  [{ prompt: 'x'.repeat(10_001) }, ['body', 'prompt'], 'string_too_long'],
  [{ prompt: '\ud800' }, ['body', 'prompt'], 'value_error'],
  [{ prompt: 'x', max_turns: '3' }, ['body', 'max_turns'], 'int_type'],
  [{ prompt: 'x', max_turns: 1.5 }, ['body', 'max_turns'], 'int_from_float'],
  [{ prompt: 'x', max_turns: 0 }, ['body', 'max_turns'], 'greater_than_equal'],
  [{ prompt: 'x', max_turns: 11 }, ['body', 'max_turns'], 'less_than_equal'],
  [{ prompt: 'x', timeout: null }, ['body', 'timeout'], 'int_type'],
  [{ prompt: 'x', max_budget_usd: '1' }, ['body', 'max_budget_usd'], 'float_type'],
  [{ prompt: 'x', max_budget_usd: 0 }, ['body', 'max_budget_usd'], 'greater_than'],
  [{ prompt: 'x', permission_mode: 'yolo' }, ['body', 'permission_mode'], 'enum'],
  [{ prompt: 'x', instructions: 'yes' }, ['body', 'instructions'], 'bool_type'],
  [{ prompt: 'x', allowed_tools: 'Read' }, ['body', 'allowed_tools'], 'list_type'],
  [{ prompt: 'x', allowed_tools: ['Read', 'Nope'] }, ['body', 'allowed_tools', 1], 'enum'],
  [{ prompt: 'x', allowed_tools: Array(51).fill('Read') }, ['body', 'allowed_tools'], 'too_long'],
  [{ prompt: 'x', files: [{ path: 'a' }] }, ['body', 'files', 0, 'content'], 'missing'],
  [{ prompt: 'x', files: [{ path: 'a', content: '', mode: 1 }] }, ['body', 'files', 0, 'mode'], 'extra_forbidden'],
  [{ prompt: 'x', files: [], project_path: '/x' }, ['body', 'files'], 'value_error'],
  [{ prompt: 'x', model: '' }, ['body', 'model'], 'string_too_short'],
  [{ prompt: 'x', metadata: [] }, ['body', 'metadata'], 'dict_type'],
  [{ prompt: 'x', api_base: 'http://evil.test' }, ['body', 'api_base'], 'extra_forbidden'],
];

test('each wrong field is one issue with its place and a type as FastAPI names it', () => {
  for (const [input, loc, type] of bad) {
    const issues = issuesFor(input);
    assert.deepEqual(
      issues.map((issue) => [issue.loc, issue.type]),
      [[loc, type]],
      JSON.stringify(input)?.slice(0, 60),
    );
    assert.notEqual(issues[0]?.msg, '');
  }
});

test('every unknown field is named, with the other issues', () => {
  const issues = issuesFor({ prompt: 3, b: 1, a: 2 });
  assert.deepEqual(
    issues.map(({ loc, type }) => [loc.join('.'), type]),
    [
      ['body.prompt', 'string_type'],
      ['body.b', 'extra_forbidden'],
      ['body.a', 'extra_forbidden'],
    ],
  );
});

test('the answer stays small however much is wrong, and repeats no value', () => {
  const input = Object.fromEntries(
    Array.from({ length: 10_000 }, (_, index) => [`${'k'.repeat(1000)}${index}`, 'canary']),
  );
  const issues = issuesFor(input);
  assert.equal(issues.length, 50);
  assert.ok(JSON.stringify(issues).length < 20_000);
  assert.doesNotMatch(
    JSON.stringify(issuesFor({ prompt: 'x', permission_mode: 'canary', model: { canary: 'canary' } })),
    /canary/,
  );
});

test('every kind of issue that zod has gets a type', () => {
  const kinds: readonly [z.ZodType, unknown][] = [
    [z.object({ a: z.union([z.string(), z.int()]) }), { a: true }],
    [z.object({ a: z.iso.datetime() }), { a: 'x' }],
    [z.object({ a: z.number().multipleOf(2) }), { a: 3 }],
    [z.object({ a: z.record(z.string().max(1), z.string()) }), { a: { long: 'x' } }],
    [z.object({ a: z.map(z.string(), z.string()) }), { a: {} }],
    [z.object({ a: z.number().lt(2) }), { a: 2 }],
    [z.object({ a: z.array(z.string()).min(1) }), { a: [] }],
  ];
  for (const [schema, input] of kinds) assert.match(issuesFor(input, schema)[0]?.type ?? '', /^[a-z_]+$/);
});

test('a body that fails its schema is a 422 with the issues as its detail', async () => {
  const { app, engine } = await testApp();
  const answer = await app.inject({
    method: 'POST',
    url: '/api/claude/stream',
    headers: bearer('user'),
    payload: { max_turns: 99 },
  });
  assert.equal(answer.statusCode, 422);
  assert.deepEqual(answer.json(), {
    detail: [
      { loc: ['body', 'prompt'], msg: 'Field required', type: 'missing' },
      { loc: ['body', 'max_turns'], msg: 'Input should be less than or equal to 10', type: 'less_than_equal' },
    ],
    code: 'validation_failed',
    request_id: answer.headers['x-request-id'],
    retryable: false,
  });
  assert.equal(engine.calls.length, 0);
  await app.close();
});
