import assert from 'node:assert/strict';
import { test } from 'node:test';
import { schemaValue } from './schema-value.ts';

const facts = {
  text: 'What I saw.',
  fileCount: 5,
  read: [
    { path: 'a.md', lines: ['1', '2'] },
    { path: 'b.md', lines: ['3'] },
  ],
};
const value = (schema: unknown) => schemaValue(schema, facts);
const field = (name: string, schema: unknown) =>
  (value({ type: 'object', properties: { [name]: schema }, required: [name] }) as Record<string, unknown>)[name];

test('an object has its required properties, or all where none is required', () => {
  const properties = { a: { type: 'string' }, b: { type: 'boolean' }, c: { type: 'null' } };
  assert.deepEqual(value({ type: 'object', properties, required: ['b'] }), { b: false });
  assert.deepEqual(value({ type: 'object', properties }), { a: facts.text, b: false, c: null });
  const nested = {
    type: 'object',
    properties: { inner: { type: 'object', properties, required: ['c'] } },
    required: ['inner'],
  };
  assert.deepEqual(value(nested), { inner: { c: null } });
});

test('constants, enums, alternatives and references are followed', () => {
  assert.equal(field('x', { const: 7 }), 7);
  assert.equal(field('x', { enum: ['red', 'green'] }), 'red');
  assert.equal(field('x', { type: ['integer', 'null'], minimum: 3 }), 3);
  assert.deepEqual(field('x', { anyOf: [{ type: 'array' }, { type: 'string' }] }), []);
  assert.deepEqual(
    value({
      $defs: { pair: { type: 'object', properties: { k: { enum: [1] } }, required: ['k'] } },
      allOf: [{ $ref: '#/$defs/pair' }, { properties: { l: { type: 'integer' } }, required: ['l'] }],
    }),
    { k: 1, l: 0 },
  );
});

test('a schema that refers to itself ends', () => {
  const optional = { type: 'object', properties: { next: { $ref: '#' }, n: { type: 'integer' } }, required: ['n'] };
  assert.deepEqual(value(optional), { n: 0 });
  assert.ok(value({ type: 'object', properties: { next: { $ref: '#' } }, required: ['next'] }));
  assert.ok(value({ $ref: '#' }) !== undefined);
});

test('arrays have as many elements as they must, files as many as were read', () => {
  assert.deepEqual(field('tags', { type: 'array', items: { type: 'integer' } }), []);
  assert.deepEqual(
    field('tags', { type: 'array', items: { type: 'integer' }, minItems: 2, uniqueItems: true }),
    [0, 1],
  );
  assert.deepEqual(field('tags', { prefixItems: [{ const: 'a' }, { type: 'null' }] }), ['a', null]);
  assert.deepEqual(field('files', { type: 'array', items: { type: 'string' } }), ['a.md', 'b.md']);
  assert.deepEqual(field('files', { type: 'array', items: { type: 'string' }, maxItems: 1 }), ['a.md']);
});

test('numbers state what was counted and stay in their range', () => {
  assert.equal(field('file_count', { type: 'integer' }), 5);
  assert.equal(field('lines', { type: 'integer' }), 3);
  assert.equal(field('score', { type: 'number' }), 0);
  assert.equal(field('file_count', { type: 'integer', maximum: 2 }), 2);
  assert.equal(field('score', { type: 'integer', exclusiveMinimum: 4 }), 5);
  assert.equal(field('score', { type: 'integer', minimum: 7, multipleOf: 5 }), 10);
  assert.equal(field('score', { type: 'number', maximum: -3 }), -3);
  const below = Number(field('score', { type: 'number', exclusiveMinimum: 0, exclusiveMaximum: 1 }));
  assert.ok(below > 0 && below < 1);
});

test('strings state the facts within their length, format and pattern', () => {
  assert.equal(field('path', { type: 'string' }), 'a.md');
  assert.equal(field('answer', { type: 'string', maxLength: 4 }), 'What');
  assert.equal(String(field('answer', { type: 'string', minLength: 40 })).length, 40);
  assert.match(String(field('day', { type: 'string', format: 'date' })), /^\d{4}-\d\d-\d\d$/);
  assert.match(String(field('code', { type: 'string', pattern: '^[0-9]{5}$' })), /^[0-9]{5}$/);
});
