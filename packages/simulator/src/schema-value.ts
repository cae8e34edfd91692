import type { Findings } from './demo-answer.ts';

type Schema = Record<string, unknown>;

/** What a value is made of. */
export type Facts = Pick<Findings, 'fileCount' | 'read'> & { text: string };

const maxDepth = 20;

/**
 * A small value that fits a JSON schema: required properties only (all of them where none is required), the shortest
 * arrays that are not empty without need, and contents taken from the facts. Patterns are met only by luck.
 */
export function schemaValue(schema: unknown, facts: Facts): unknown {
  return valueOf(schema, facts, schema, '', 0);
}

function asObject(value: unknown): Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value))
    : {};
}

function asArray(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function asNumber(value: unknown): number | undefined {
  return typeof value === 'number' ? value : undefined;
}

/** Follows `$ref` inside the document, takes the first of alternatives and merges `allOf`. */
function resolve(schema: unknown, root: unknown, depth: number): Schema {
  const own = asObject(schema);
  if (depth > maxDepth) return {};
  const { $ref: ref, ...rest } = own;
  if (typeof ref === 'string' && ref.startsWith('#')) {
    const names = ref
      .slice(1)
      .split('/')
      .filter((name) => name !== '');
    const target = names.reduce<unknown>(
      (at, name) => asObject(at)[decodeURIComponent(name).replaceAll('~1', '/').replaceAll('~0', '~')],
      root,
    );
    return { ...resolve(target, root, depth + 1), ...rest };
  }
  const parts = [...asArray(own['allOf']), ...asArray(own['anyOf']).slice(0, 1), ...asArray(own['oneOf']).slice(0, 1)];
  if (parts.length === 0) return own;
  const { allOf: _all, anyOf: _any, oneOf: _one, ...merged } = own;
  for (const part of parts) {
    const { properties, required, ...other } = resolve(part, root, depth + 1);
    Object.assign(merged, other);
    merged['properties'] = { ...asObject(merged['properties']), ...asObject(properties) };
    merged['required'] = [...asArray(merged['required']), ...asArray(required)];
  }
  return merged;
}

function typeOf(schema: Schema): string {
  const declared = asArray(schema['type'])[0] ?? schema['type'];
  if (typeof declared === 'string') return declared;
  if (Object.keys(asObject(schema['properties'])).length > 0) return 'object';
  if (schema['items'] !== undefined || schema['prefixItems'] !== undefined) return 'array';
  return schema['minimum'] !== undefined || schema['maximum'] !== undefined ? 'number' : 'string';
}

function valueOf(raw: unknown, facts: Facts, root: unknown, name: string, depth: number): unknown {
  const schema = resolve(raw, root, 0);
  if ('const' in schema) return schema['const'];
  const choices = asArray(schema['enum']);
  if (choices.length > 0) return choices[0];
  switch (typeOf(schema)) {
    case 'object':
      return objectOf(schema, facts, root, depth);
    case 'array':
      return arrayOf(schema, facts, root, name, depth);
    case 'integer':
      return numberOf(schema, facts, name, 1);
    case 'number':
      return numberOf(schema, facts, name, 0);
    case 'boolean':
      return false;
    case 'null':
      return null;
    default:
      return stringOf(schema, facts, name);
  }
}

function objectOf(schema: Schema, facts: Facts, root: unknown, depth: number): Schema {
  const properties = asObject(schema['properties']);
  const required = asArray(schema['required']).map(String);
  const wanted = required.length > 0 || depth > 0 ? required : Object.keys(properties);
  if (depth > maxDepth) return {};
  return Object.fromEntries(wanted.map((key) => [key, valueOf(properties[key], facts, root, key, depth + 1)]));
}

function arrayOf(schema: Schema, facts: Facts, root: unknown, name: string, depth: number): unknown[] {
  const first = asArray(schema['prefixItems']);
  const least = Math.max(asNumber(schema['minItems']) ?? 0, first.length);
  const most = Math.min(asNumber(schema['maxItems']) ?? Infinity, 100);
  const items = schema['items'];
  if (depth > maxDepth || items === false) return [];
  if (first.length === 0 && typeOf(resolve(items, root, 0)) === 'string' && /file|path|name|source/i.test(name)) {
    const paths = facts.read.map((file) => stringOf({ ...resolve(items, root, 0) }, { ...facts, text: file.path }, ''));
    if (paths.length >= least && !('enum' in resolve(items, root, 0))) return paths.slice(0, most);
  }
  const values = Array.from({ length: Math.min(least, most) }, (_none, index) =>
    valueOf(first[index] ?? items, facts, root, name, depth + 1),
  );
  return schema['uniqueItems'] === true
    ? values.map((value, index) => distinct(value, index, resolve(items, root, 0)))
    : values;
}

/** Makes equal elements differ. */
function distinct(value: unknown, index: number, items: Schema): unknown {
  const choices = asArray(items['enum']);
  if (choices.length > 0) return choices[index % choices.length];
  if (typeof value === 'number') return value + index * (asNumber(items['multipleOf']) ?? 1);
  return typeof value === 'string' && index > 0
    ? `${index} ${value}`.slice(0, asNumber(items['maxLength']) ?? Infinity)
    : value;
}

/** The number of files or lines where the name asks for it, else 0; moved into the allowed range. */
function numberOf(schema: Schema, facts: Facts, name: string, whole: 0 | 1): number {
  const lines = facts.read.reduce((sum, file) => sum + file.lines.length, 0);
  const known = /line/i.test(name)
    ? lines
    : /file|count|total|number/i.test(name)
      ? (facts.fileCount ?? facts.read.length)
      : 0;
  const step = asNumber(schema['multipleOf']) ?? (whole || 0.5);
  const above = asNumber(schema['exclusiveMinimum']);
  const below = asNumber(schema['exclusiveMaximum']);
  const low = Math.max(asNumber(schema['minimum']) ?? -Infinity, above === undefined ? -Infinity : above + step / 2);
  const high = Math.min(asNumber(schema['maximum']) ?? Infinity, below === undefined ? Infinity : below - step / 2);
  const wanted = Math.min(Math.max(known, low), high);
  const multiple = Math.ceil(wanted / step) * step;
  return multiple <= high ? multiple : Math.floor(high / step) * step;
}

const formats: Record<string, string> = {
  'date-time': '1970-01-01T00:00:00Z',
  date: '1970-01-01',
  time: '00:00:00Z',
  email: 'simulated@example.com',
  uri: 'https://example.com/simulated',
  uuid: '00000000-0000-4000-8000-000000000000',
};

function stringOf(schema: Schema, facts: Facts, name: string): string {
  const format = schema['format'];
  if (typeof format === 'string' && formats[format] !== undefined) return formats[format];
  const file = facts.read[0];
  const text = file && /^(file|path|filename|file_path|source)$/i.test(name) ? file.path : facts.text;
  const candidates = [
    text,
    text.slice(0, asNumber(schema['maxLength']) ?? Infinity),
    'simulated',
    'a',
    'A',
    '0',
    '00000',
    '',
  ];
  const pattern = typeof schema['pattern'] === 'string' ? schema['pattern'] : null;
  const least = asNumber(schema['minLength']) ?? 0;
  const most = asNumber(schema['maxLength']) ?? Infinity;
  const fits = (value: string) => value.length <= most && (pattern === null || matches(pattern, value));
  return candidates.map((value) => value.padEnd(least, '.')).find(fits) ?? text.slice(0, most).padEnd(least, '.');
}

/** False also for a pattern that is no regular expression. */
function matches(pattern: string, value: string): boolean {
  try {
    return new RegExp(pattern, 'u').test(value);
  } catch {
    return false;
  }
}
