import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { SallyportError } from './errors.ts';
import { answeredInput, canonicalHash, checkedInput, ruleOf } from './tool-inputs.ts';

const refused = (error: unknown) => error instanceof SallyportError && error.code === 'validation_failed';

test('a changed input must be one that the tool takes', () => {
  const write = { file_path: '/workspace/a', content: 'x' };
  assert.deepEqual(checkedInput('Write', write), write);
  const wrong: [string, Record<string, unknown>][] = [
    ['Write', { file_path: '/workspace/a' }],
    ['Write', { file_path: '/workspace/a', content: 1 }],
    ['Write', { ...write, more: true }],
    ['Edit', write],
    ['Bash', { command: 'ls', dangerouslyDisableSandbox: true }],
    ['Bash', { command: '' }],
    ['WebFetch', { url: 'no address', prompt: 'x' }],
    ['Read', { file_path: 'a' }],
    ['__proto__', {}],
    ['toString', {}],
  ];
  for (const [tool, input] of wrong)
    assert.throws(() => checkedInput(tool, input), refused, JSON.stringify([tool, input]));
});

test('every question is answered, and nothing else', () => {
  const input = { questions: [{ question: 'One?' }, { question: 'Two?' }, null] };
  const answers = { 'One?': 'a', 'Two?': ['b', 'c'] };
  assert.deepEqual(answeredInput(input, answers), { ...input, answers: { 'One?': 'a', 'Two?': 'b, c' } });
  assert.throws(() => answeredInput(input, { 'One?': 'a' }), refused);
  assert.throws(() => answeredInput(input, { ...answers, 'Three?': 'd' }), refused);
  assert.throws(() => answeredInput({ questions: 'none' }, { 'One?': 'a' }), refused);
});

test('the hash of a value does not depend on the order of its keys, and on everything else', () => {
  const shuffled = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(shuffled);
    if (typeof value !== 'object' || value === null) return value;
    const turned = Object.create(null) as Record<string, unknown>;
    for (const [key, item] of Object.entries(value).toReversed()) turned[key] = shuffled(item);
    return turned;
  };
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      assert.equal(canonicalHash(value), canonicalHash(shuffled(value)));
      assert.notEqual(canonicalHash(value), canonicalHash([value]));
    }),
  );
  assert.notEqual(canonicalHash({ a: 1 }), canonicalHash({ a: 2 }));
  assert.notEqual(canonicalHash(JSON.parse('{"__proto__":1}')), canonicalHash({}));
});

test('a rule covers an edit tool, one command, or one host, and nothing wider', () => {
  assert.equal(ruleOf('Edit', { file_path: 'a' }), ruleOf('Edit', { file_path: 'b' }));
  assert.notEqual(ruleOf('Edit', {}), ruleOf('Write', {}));
  assert.notEqual(ruleOf('Bash', { command: 'ls' }), ruleOf('Bash', { command: 'ls; rm -rf .' }));
  const fetched = (url: string) => ruleOf('WebFetch', { url });
  assert.equal(fetched('https://example.org/a'), fetched('https://example.org/b'));
  assert.notEqual(fetched('https://example.org/'), fetched('https://example.org.evil.test/'));
  assert.deepEqual([fetched('nonsense'), ruleOf('AskUserQuestion', {})], [null, null]);
});
