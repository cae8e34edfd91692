import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  defaultBounds,
  isReadTool,
  permissionModes,
  queryRequest,
  toolNames,
  type QueryRequest,
} from '@sallyport/protocol';
import { aPrincipal, asked } from './cache-support.ts';
import { answerKey } from './cache.ts';

const parts = { configuration: 'configuration', cacheTtlSeconds: 60 };
const keyOf = (fields: object) => answerKey(parts, asked(fields));

/** For each field of a request values that ask for something else than the others and than its absence. */
const variants: Record<keyof QueryRequest, unknown[]> = {
  prompt: ['a', 'A', 'a ', 'é', 'e\u0301', '["a","b"]'],
  max_turns: [1, 2],
  system_prompt: ['a', 'b'],
  project_path: [],
  permission_mode: ['strict', 'acceptEdits'],
  allowed_tools: [[], ['Read'], ['Read', 'Grep']],
  timeout: [10, 11],
  model: ['other-model'],
  effort: ['low', 'high'],
  output_schema: [{ type: 'object' }, { type: 'object', properties: {} }, { type: 'object', title: 'a' }],
  files: [
    [],
    [{ path: 'a', content: 'b' }],
    [{ path: 'ab', content: '' }],
    [
      { path: 'a', content: 'b' },
      { path: 'c', content: '' },
    ],
  ],
  max_budget_usd: [0.1, 0.2],
  cache: [],
  instructions: [true],
  metadata: [],
};
/** No field with values of its own, or one of them; modes with what makes them read only. */
const someFields = fc
  .record(
    Object.fromEntries(
      Object.entries(variants)
        .filter(([, values]) => values.length > 0)
        .map(([field, values]) => [field, fc.constantFrom(...values)]),
    ),
    { requiredKeys: [] },
  )
  .map((fields) => ('permission_mode' in fields ? { allowed_tools: ['Grep'], ...fields } : fields));

test('every field of a request is thought of', () => {
  const { shape } = queryRequest(defaultBounds);
  assert.deepEqual(Object.keys(variants).toSorted(), Object.keys(shape).toSorted());
});

test('each field that is another one gives another answer, the label and the use of stored answers do not', () => {
  const usual = keyOf({});
  const keys = [usual];
  for (const [field, values] of Object.entries(variants)) {
    const allowed_tools = ['Grep'];
    if (field === 'permission_mode') keys.push(keyOf({ allowed_tools }));
    for (const value of values) {
      keys.push(keyOf(field === 'permission_mode' ? { allowed_tools, [field]: value } : { [field]: value }));
    }
  }
  assert.ok(keys.every((key) => key !== null && /^[\da-f]{64}$/u.test(key)));
  assert.equal(new Set(keys).size, keys.length);
  assert.equal(keyOf({ metadata: { a: 'b' } }), usual);
  assert.equal(keyOf({ cache: 'refresh' }), usual);
  // Defaults that are written out, other names of a tool and the order of an object's keys say the same.
  assert.equal(keyOf({ max_turns: 3, model: null, project_path: '' }), usual);
  assert.equal(keyOf({ allowed_tools: ['LS'] }), keyOf({ allowed_tools: ['Glob'] }));
  const schema = { type: 'object', title: 'a' };
  assert.equal(keyOf({ output_schema: schema }), keyOf({ output_schema: { title: 'a', type: 'object' } }));
});

test('two requests have the answer of one only when they are one', () => {
  const said = (fields: object) => {
    const { request, profile } = asked(fields);
    return JSON.stringify([request, profile]);
  };
  fc.assert(
    fc.property(someFields, someFields, (one, other) => {
      const [first, second] = [keyOf(one), keyOf(other)];
      assert.ok(first !== null && second !== null);
      assert.equal(first === second, said(one) === said(other));
    }),
    { numRuns: 2000 },
  );
});

test('tenants, configurations and keys with other rights have answers of their own', () => {
  const narrowing = {
    permissionModes: null,
    tools: ['Read', 'Grep'] as const,
    models: null,
    workspaceRoots: null,
    rates: null,
    budgets: null,
  };
  const tenants = ['default', 'default ', 'Default', 'other', '["default"]', ''];
  const keys = [
    ...tenants.map((tenant) => answerKey(parts, asked({}, { ...aPrincipal, tenant }))),
    answerKey({ ...parts, configuration: 'other' }, asked()),
    answerKey(parts, asked({}, { ...aPrincipal, narrowing })),
    answerKey(parts, asked({}, { ...aPrincipal, narrowing: { ...narrowing, tools: null, models: ['other-model'] } })),
  ];
  assert.equal(new Set(keys).size, keys.length);
  assert.equal(answerKey(parts, asked({}, { ...aPrincipal, key: 'other', role: 'admin' })), keys[0]);
});

test('only what could change nothing has a stored answer, and only when it is asked for', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...permissionModes),
      fc.option(fc.uniqueArray(fc.constantFrom(...toolNames)), { nil: undefined }),
      fc.constantFrom('bypass', 'auto', 'refresh'),
      (permission_mode, allowed_tools, cache) => {
        const one = asked({ permission_mode, allowed_tools, cache });
        const onlyReads = one.profile.tools.every(isReadTool);
        assert.equal(answerKey(parts, one) !== null, onlyReads && cache !== 'bypass');
        assert.equal(answerKey({ ...parts, cacheTtlSeconds: 0 }, one), null);
        const inProject = { ...one, profile: { ...one.profile, projectPath: '/srv/project' } };
        assert.equal(answerKey(parts, inProject), null);
        assert.equal(answerKey(parts, { ...one, profile: { ...one.profile, access: 'rw' } }), null);
      },
    ),
  );
});
