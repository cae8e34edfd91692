import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SallyportError } from './errors.ts';
import { checkOutputSchema } from './output-schema.ts';

const good: Record<string, unknown>[] = [
  { type: 'object' },
  { type: 'object', properties: { a: { type: 'string', pattern: '^x+$' } }, required: ['a'] },
  {
    type: 'object',
    $defs: { 'a/b': { type: 'number' } },
    properties: { x: { $ref: '#/$defs/a~1b' }, y: { $ref: '#' } },
  },
  { $schema: 'http://json-schema.org/draft-07/schema#', type: 'object' },
];
const bad: Record<string, unknown>[] = [
  {},
  { type: 'string' },
  { type: 'objekt' },
  { type: 'object', properties: 5 },
  { type: 'object', required: 'a' },
  { type: 'object', properties: { a: { type: 'string', pattern: '(' } } },
  { type: 'object', properties: { a: { $ref: '#/$defs/none' } } },
  { type: 'object', properties: { a: { $ref: 'https://example.com/x' } } },
  { type: 'object', properties: { a: { $ref: '#/%' } } },
];

for (const schema of good) {
  test(`takes ${JSON.stringify(schema)}`, () => checkOutputSchema(schema));
}
for (const schema of bad) {
  test(`refuses ${JSON.stringify(schema)} as a field that is wrong`, () => {
    assert.throws(
      () => checkOutputSchema(schema),
      (error) =>
        error instanceof SallyportError &&
        error.code === 'validation_failed' &&
        error.issues?.[0]?.loc[1] === 'output_schema',
    );
  });
}
