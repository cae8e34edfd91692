import { Ajv2020 } from 'ajv/dist/2020.js';
import { SallyportError } from './errors.ts';

const ajv = new Ajv2020({ strict: false, logger: false, validateFormats: false });

const refuse = (msg: string) =>
  new SallyportError('validation_failed', { issues: [{ loc: ['body', 'output_schema'], msg, type: 'value_error' }] });

/**
 * Checks that a JSON Schema can be given to Claude: valid by its meta-schema, of type `object`, with references that
 * stay inside it and patterns that compile. Compiles no code of it. Throws `validation_failed`.
 */
export function checkOutputSchema(schema: Readonly<Record<string, unknown>>): void {
  if (schema['type'] !== 'object') throw refuse('must describe an object: "type" must be "object"');
  const { $schema: _, ...rest } = schema;
  if (ajv.validateSchema(rest) !== true) throw refuse(`is not a valid JSON Schema: ${ajv.errorsText(ajv.errors)}`);
  visit(schema, (key, value) => {
    if ((key === '$ref' || key === '$dynamicRef') && !resolves(schema, value))
      throw refuse(`has a "${key}" that leads nowhere`);
    if (key === 'pattern' && typeof value === 'string' && !compiles(value))
      throw refuse('has a pattern that does not compile');
  });
}

function visit(node: unknown, check: (key: string, value: unknown) => void): void {
  if (typeof node !== 'object' || node === null) return;
  for (const [key, value] of Object.entries(node)) {
    check(key, value);
    visit(value, check);
  }
}

function resolves(schema: object, reference: unknown): boolean {
  if (typeof reference !== 'string') return true; // A property that happens to be called so.
  if (reference === '#') return true;
  if (!reference.startsWith('#/')) return false;
  let node: unknown = schema;
  for (const part of reference.slice(2).split('/')) {
    const key = decoded(part).replaceAll('~1', '/').replaceAll('~0', '~');
    if (typeof node !== 'object' || node === null || !Object.hasOwn(node, key)) return false;
    node = (node as Record<string, unknown>)[key];
  }
  return true;
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function compiles(pattern: string): boolean {
  try {
    return new RegExp(pattern, 'u') instanceof RegExp;
  } catch {
    return false;
  }
}
