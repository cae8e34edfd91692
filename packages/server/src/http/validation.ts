import type { ValidationIssue } from '@sallyport/protocol';
import { z } from 'zod';
import { SallyportError } from '../engine/errors.ts';

type Issue = z.core.$ZodIssue;
/** The part of a request that is parsed; the first place of every issue. */
export type Part = 'body' | 'path' | 'query';
type Kind = Pick<ValidationIssue, 'type' | 'msg'>;

const maxIssues = 50;
const maxNameChars = 100;

const kind = (type: string, msg: string): Kind => ({ type, msg });
const plural = (count: number | bigint, noun: string): string => `${count} ${noun}${Number(count) === 1 ? '' : 's'}`;

const typeKinds: Readonly<Record<string, Kind>> = {
  string: kind('string_type', 'Input should be a valid string'),
  number: kind('float_type', 'Input should be a valid number'),
  integer: kind('int_type', 'Input should be a valid integer'),
  int: kind('int_from_float', 'Input should be a valid integer, got a number with a fractional part'),
  boolean: kind('bool_type', 'Input should be a valid boolean'),
  array: kind('list_type', 'Input should be a valid list'),
  object: kind('dict_type', 'Input should be a valid dictionary'),
  record: kind('dict_type', 'Input should be a valid dictionary'),
};

function boundKind(issue: Extract<Issue, { code: 'too_big' | 'too_small' }>): Kind {
  const big = issue.code === 'too_big';
  const bound = big ? issue.maximum : issue.minimum;
  const most = big ? 'at most' : 'at least';
  if (issue.origin === 'string') {
    return kind(
      big ? 'string_too_long' : 'string_too_short',
      `String should have ${most} ${plural(bound, 'character')}`,
    );
  }
  if (issue.origin === 'array') {
    return kind(big ? 'too_long' : 'too_short', `List should have ${most} ${plural(bound, 'item')}`);
  }
  const than = big ? 'less' : 'greater';
  return issue.inclusive === false
    ? kind(`${than}_than`, `Input should be ${than} than ${bound}`)
    : kind(`${than}_than_equal`, `Input should be ${than} than or equal to ${bound}`);
}

/** zod asks a string for an integer as a number; the schema knows better. */
function asksInteger(schema: z.ZodType, issue: Issue): boolean {
  const [field] = issue.path;
  if (!(schema instanceof z.ZodObject) || issue.path.length !== 1 || typeof field !== 'string') return false;
  let type: z.core.$ZodType | undefined = schema.shape[field];
  while (type instanceof z.ZodDefault) type = type.def.innerType;
  return type instanceof z.ZodNumber && type.format === 'safeint';
}

function kindOf(schema: z.ZodType, issue: Issue, value: unknown): Kind {
  if (value === undefined && (issue.code === 'invalid_type' || issue.code === 'invalid_value')) {
    return kind('missing', 'Field required');
  }
  switch (issue.code) {
    case 'invalid_type': {
      if (issue.path.length === 0) return kind('model_attributes_type', 'Input should be a valid dictionary or object');
      const expected = issue.expected === 'number' && asksInteger(schema, issue) ? 'integer' : issue.expected;
      return typeKinds[expected] ?? kind('value_error', 'Input has the wrong type');
    }
    case 'too_big':
    case 'too_small':
      return boundKind(issue);
    case 'invalid_value':
      return kind('enum', `Input should be one of ${issue.values.map(String).join(', ')}`);
    case 'custom': {
      const type: unknown = issue.params?.['type'];
      return typeof type === 'string'
        ? kind(type, issue.message)
        : kind('value_error', `Value error, ${issue.message}`);
    }
    case 'invalid_format':
      return kind('value_error', `Value error, ${issue.message}`);
    case 'invalid_key':
      return kind('value_error', 'Value error, the name is not valid');
    case 'unrecognized_keys':
    case 'invalid_element':
    case 'invalid_union':
    case 'not_multiple_of':
      return kind('value_error', 'Value error, the value is not valid');
  }
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input;
  for (const key of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
    value = (value as Record<PropertyKey, unknown>)[key];
  }
  return value;
}

const place = (key: PropertyKey): string | number =>
  typeof key === 'number' ? key : String(key).slice(0, maxNameChars);

function issuesOf(schema: z.ZodType, issue: Issue, input: unknown, part: Part): ValidationIssue[] {
  const loc = [part, ...issue.path.map(place)];
  if (issue.code !== 'unrecognized_keys') return [{ loc, ...kindOf(schema, issue, valueAt(input, issue.path)) }];
  return issue.keys
    .slice(0, maxIssues)
    .map((key) => ({ loc: [...loc, place(key)], ...kind('extra_forbidden', 'Extra inputs are not permitted') }));
}

/**
 * Parses a part of a request under its schema. Throws `validation_failed` with one issue for each field that is wrong,
 * at most 50; no value of the request is in them.
 */
export function parsePart<T extends z.ZodType>(schema: T, input: unknown, part: Part): z.output<T> {
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.slice(0, maxIssues).flatMap((issue) => issuesOf(schema, issue, input, part));
  throw new SallyportError('validation_failed', { issues: issues.slice(0, maxIssues) });
}
