import { z } from 'zod';
import { defaultBounds, type Bounds } from './bounds.ts';
import { errorCatalogue, type ErrorCode } from './errors.ts';
import { streamEvent } from './events.ts';
import type { Operation } from './operation.ts';
import { operations } from './operations.ts';
import { errorBody } from './shapes.ts';

type Json = Record<string, unknown>;

/** Codes that any route can answer with, by what it takes. */
function commonErrors(operation: Operation): ErrorCode[] {
  const codes: ErrorCode[] = ['bad_request', 'host_not_allowed', 'headers_too_large', 'internal'];
  if (operation.right !== 'public')
    codes.push('unauthenticated', 'invalid_key', 'forbidden', 'rate_limited', 'origin_not_allowed', 'not_ready');
  if (operation.body) codes.push('invalid_json', 'request_timeout', 'body_too_large', 'unsupported_media_type');
  if (operation.body || operation.params || operation.query) codes.push('validation_failed');
  return codes;
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

const answer = (texts: readonly string[], type: string, schemas: readonly Json[]): Json => ({
  description: texts.join('\n\n'),
  content: { [type]: { schema: schemas.length === 1 ? schemas[0] : { anyOf: schemas } } },
});

const replayedHeader = {
  description: '`true`: this is the answer to an earlier request under the same `Idempotency-Key`.',
  schema: { type: 'string', enum: ['true'] },
};

const whole = { type: 'integer', minimum: 0 };
const rateHeaders: Json = {
  'X-RateLimit-Limit-Minute': { description: 'Requests that a key has in any minute.', schema: whole },
  'X-RateLimit-Remaining-Minute': { description: 'Those that are left.', schema: whole },
  'X-RateLimit-Limit-Hour': { description: 'Requests that a key has in any hour.', schema: whole },
  'X-RateLimit-Remaining-Hour': { description: 'Those that are left.', schema: whole },
  'X-RateLimit-Reset': {
    description: 'Epoch second at which the window with the fewest places frees one.',
    schema: whole,
  },
};
const retryAfter = { description: 'Seconds after which the same request is let through.', schema: whole };

/** What tells a client where it stands. A window that is off has no headers. */
const rateReferences: Json = Object.fromEntries(
  Object.keys(rateHeaders).map((name) => [name, { $ref: `#/components/headers/${name}` }]),
);

/** The answers of an operation by status. Where codes share a status with a body of the operation's own, either may come. */
function responsesOf(operation: Operation, components: Json): Json {
  const { response, elseStatus } = operation;
  const schema = schemaOf(response.schema, 'output', components);
  const otherSchema = elseStatus?.schema ? schemaOf(elseStatus.schema, 'output', components) : schema;
  const content: Json = { [response.type]: { schema } };
  if (operation.alsoStreams) content['text/event-stream'] = { schema: schemaOf(streamEvent, 'output', components) };
  const codes = [...new Set([...commonErrors(operation), ...operation.errors])];
  const byStatus = Map.groupBy(codes, (code): number => errorCatalogue[code].status);
  const headers: Json = {
    ...(operation.right !== 'public' && !operation.uncounted && rateReferences),
    ...(operation.startsWork && { 'Idempotency-Replayed': replayedHeader }),
  };
  const responses: Json = {
    [response.status]: {
      description: response.text,
      ...(Object.keys(headers).length > 0 && { headers }),
      content,
    },
  };
  if (elseStatus) responses[elseStatus.status] = answer([elseStatus.text], response.type, [otherSchema]);
  for (const [status, sharing] of byStatus) {
    const own = status === elseStatus?.status;
    responses[status] = answer(
      [...(own ? [elseStatus.text] : []), ...sharing.map((code) => `\`${code}\`: ${errorCatalogue[code].detail}`)],
      'application/json',
      [...(own ? [otherSchema] : []), { $ref: '#/components/schemas/ErrorBody' }],
    );
  }
  const limited = responses[errorCatalogue.rate_limited.status];
  if (limited) Object.assign(limited, { headers: { ...rateReferences, 'Retry-After': retryAfter } });
  return responses;
}

/** Parameters as they are written. What a text is read as says more of it than that it is a text. */
function parametersOf(schema: z.ZodObject, place: 'path' | 'query', components: Json): Json[] {
  const { properties } = schemaOf(schema, 'output', components) as { properties: Record<string, Json> };
  const { required } = schemaOf(schema, 'input', components) as { required?: string[] };
  return Object.entries(properties).map(([name, { description, ...rest }]) => ({
    name,
    in: place,
    required: required?.includes(name) ?? false,
    ...(description !== undefined && { description }),
    schema: rest,
  }));
}

const idempotencyKey: Json = {
  name: 'Idempotency-Key',
  in: 'header',
  required: false,
  description:
    'Names the request. Sent again with the same key and content within 24 hours, nothing new runs and the first answer is given again. What it starts is not stopped when the client leaves.',
  schema: { type: 'string', minLength: 1, maxLength: 255, pattern: '^[!-~]+$' },
};

/** What lets a request in; each is enough. */
function securityOf({ right, takesTicket }: Operation): Json[] {
  if (right === 'public') return [];
  return takesTicket ? [{ key: [] }, { ticket: [] }] : [{ key: [] }];
}

function pathItem(operation: Operation, components: Json): Json {
  const parameters = (['params', 'query'] as const).flatMap((part) => {
    const schema = operation[part];
    return schema ? parametersOf(schema, part === 'params' ? 'path' : 'query', components) : [];
  });
  if (operation.startsWork) parameters.push(idempotencyKey);
  return {
    operationId: operation.id,
    summary: operation.summary,
    description: operation.description,
    tags: [operation.path.startsWith('/api/claude') ? 'claude' : 'service'],
    security: securityOf(operation),
    ...(parameters.length > 0 && { parameters }),
    ...(operation.body && {
      requestBody: {
        required: true,
        content: { 'application/json': { schema: schemaOf(operation.body, 'input', components) } },
      },
    }),
    responses: responsesOf(operation, components),
  };
}

/** The OpenAPI 3.1 document of the service, made from the table of operations. */
export function openApiDocument(version: string, bounds: Bounds = defaultBounds): Json {
  const components: Json = {};
  schemaOf(errorBody, 'output', components);
  const paths: Record<string, Json> = {};
  for (const operation of Object.values<Operation>(operations(bounds))) {
    const path = (paths[operation.path.replace('...}', '}')] ??= {});
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
      securitySchemes: {
        key: { type: 'http', scheme: 'bearer', description: 'A key of the service.' },
        ticket: {
          type: 'apiKey',
          in: 'query',
          name: 'ticket',
          description: 'A ticket of POST /api/claude/ws-ticket. It can be used once.',
        },
      },
      headers: rateHeaders,
      schemas: components,
    },
  };
}
