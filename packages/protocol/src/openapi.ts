import { z } from 'zod';
import { defaultBounds, type Bounds } from './bounds.ts';
import { errorCatalogue, type ErrorCode } from './errors.ts';
import { operations, type Operation } from './operations.ts';
import { errorBody } from './shapes.ts';

type Json = Record<string, unknown>;

/** Codes that any route can answer with, by what it takes. */
function commonErrors(operation: Operation): ErrorCode[] {
  const codes: ErrorCode[] = ['bad_request', 'host_not_allowed', 'headers_too_large', 'internal'];
  if (operation.right !== 'public') codes.push('unauthenticated', 'invalid_key', 'forbidden', 'origin_not_allowed');
  if (operation.body)
    codes.push('invalid_json', 'request_timeout', 'body_too_large', 'unsupported_media_type', 'validation_failed');
  return codes;
}

function errorResponses(operation: Operation): Json {
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of [...commonErrors(operation), ...operation.errors]) {
    const { status } = errorCatalogue[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  const response = (codes: ErrorCode[]) => ({
    description: codes.map((code) => `\`${code}\`: ${errorCatalogue[code].detail}`).join('\n\n'),
    content: { 'application/json': { schema: { $ref: '#/components/schemas/ErrorBody' } } },
  });
  return Object.fromEntries(
    [...byStatus].toSorted(([a], [b]) => a - b).map(([status, codes]) => [String(status), response(codes)]),
  );
}

/** Moves the named schemas of a JSON Schema document into the shared components and returns what is left. */
function schemaOf(schema: z.ZodType, io: 'input' | 'output', components: Json): Json {
  const document = z.toJSONSchema(schema, { io, target: 'draft-2020-12', unrepresentable: 'any' }) as Json;
  const { $schema: _, $defs: definitions, ...rest } = document;
  const relocated = (value: unknown): unknown =>
    JSON.parse(JSON.stringify(value).replaceAll('"#/$defs/', '"#/components/schemas/')) as unknown;
  for (const [name, definition] of Object.entries((definitions ?? {}) as Json))
    components[name] = relocated(definition);
  return relocated(rest) as Json;
}

function pathItem(operation: Operation, components: Json): Json {
  const { response } = operation;
  return {
    operationId: operation.id,
    summary: operation.summary,
    description: operation.description,
    tags: [operation.path.startsWith('/api/claude') ? 'claude' : 'service'],
    security: operation.right === 'public' ? [] : [{ key: [] }],
    ...(operation.body && {
      requestBody: {
        required: true,
        content: { 'application/json': { schema: schemaOf(operation.body, 'input', components) } },
      },
    }),
    responses: {
      [response.status]: {
        description: response.text,
        content: { [response.type]: { schema: schemaOf(response.schema, 'output', components) } },
      },
      ...errorResponses(operation),
    },
  };
}

/** The OpenAPI 3.1 document of the service, made from the table of operations. */
export function openApiDocument(version: string, bounds: Bounds = defaultBounds): Json {
  const components: Json = {};
  schemaOf(errorBody, 'output', components);
  const paths: Record<string, Json> = {};
  for (const operation of Object.values<Operation>(operations(bounds))) {
    const path = (paths[operation.path] ??= {});
    path[operation.method.toLowerCase()] = pathItem(operation, components);
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Sallyport',
      version,
      description: 'Claude Code behind a web API.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    tags: [
      { name: 'claude', description: 'Claude Code' },
      { name: 'service', description: 'The service itself' },
    ],
    paths,
    components: {
      securitySchemes: { key: { type: 'http', scheme: 'bearer', description: 'A key of the service.' } },
      schemas: components,
    },
  };
}
