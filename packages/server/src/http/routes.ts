import type { Operation, OperationId, operations } from '@sallyport/protocol';
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify';
import type { z } from 'zod';
import type { Principal } from '../engine/principal.ts';
import { idempotencyKeyOf } from './idempotency.ts';
import { whileKeyLasts } from './key-watch.ts';
import { parsePart } from './validation.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The operation the route serves. */
    operation?: Operation;
    /** True for the pages that show the API's description: they take no key. */
    documentation?: true;
  }
}

export type Table = ReturnType<typeof operations>;

/** What one part of a request is parsed to; undefined where the operation takes none. */
type Parsed<T, K extends 'body' | 'params' | 'query'> =
  T extends Readonly<Record<K, infer S extends z.ZodType>> ? z.output<S> : undefined;
type PrincipalOf<T> = T extends { readonly right: 'public' } ? null : Principal;

/** What a handler is given: the parsed request and who asks. */
export interface Call<T> {
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  /** Parameters of the path. */
  readonly params: Parsed<T, 'params'>;
  readonly query: Parsed<T, 'query'>;
  readonly body: Parsed<T, 'body'>;
  /** The request's `Idempotency-Key`, where the operation starts work; else null. */
  readonly idempotencyKey: string | null;
  readonly principal: PrincipalOf<T>;
}

/** One handler for each operation of the table. What it returns is the answer's body. */
export type Handlers = {
  readonly [K in OperationId]: (call: Call<Table[K]>) => unknown;
};

/** Any of the handlers; the table's types tie each to its operation. */
type AnyHandler = (call: never) => unknown;

/** The path of an operation as the router writes it. */
const urlOf = (path: string): string => path.replace(/\{\w+\.\.\.\}$/, '*').replaceAll(/\{(\w+)\}/g, ':$1');

/** The parameters of the path under the operation's own names: the router calls what takes slashes `*`. */
function pathOf({ path }: Operation, params: unknown): unknown {
  const [, rest] = /\{(\w+)\.\.\.\}$/.exec(path) ?? [];
  const { '*': value, ...named } = params as Record<string, unknown>;
  return rest === undefined ? params : { ...named, [rest]: value };
}

/** The parameters after `?`, without the ticket that let the request in. */
function queryOf({ takesTicket }: Operation, query: unknown): unknown {
  const { ticket: _, ...rest } = query as Record<string, unknown>;
  return takesTicket ? rest : query;
}

function addRoute(app: FastifyInstance, operation: Operation, handler: AnyHandler): void {
  const answer = (request: FastifyRequest, reply: FastifyReply): unknown => {
    const params = operation.params && parsePart(operation.params, pathOf(operation, request.params), 'path');
    const query = operation.query && parsePart(operation.query, queryOf(operation, request.query), 'query');
    const idempotencyKey = operation.startsWork ? idempotencyKeyOf(request.raw) : null;
    const body = operation.body && parsePart(operation.body, request.body, 'body');
    const { principal } = request;
    return handler({ request, reply, params, query, body, idempotencyKey, principal } as never);
  };
  app.route({
    method: operation.method,
    url: urlOf(operation.path),
    config: { operation },
    handler: (request, reply) => whileKeyLasts(request, () => answer(request, reply)),
  });
}

/** Adds a route for each operation. Throws when an operation has no handler or a handler no operation. */
export function addOperations(
  app: FastifyInstance,
  table: Readonly<Record<string, Operation>>,
  handlers: Readonly<Record<string, AnyHandler>>,
): void {
  const strays = Object.keys(handlers).filter((id) => !Object.hasOwn(table, id));
  if (strays.length > 0) throw new Error(`handlers without an operation: ${strays.join(', ')}`);
  for (const [id, operation] of Object.entries(table)) {
    const handler = Object.hasOwn(handlers, id) ? handlers[id] : undefined;
    if (!handler) throw new Error(`operation ${id} has no handler`);
    addRoute(app, operation, handler);
  }
}

/** A route as it was added. */
interface BookedRoute {
  readonly method: string;
  readonly url: string;
  readonly pattern: RegExp;
  readonly options: RouteOptions;
}

/** Every route of an app, kept while they are added. */
export class RouteBook {
  readonly #routes: BookedRoute[] = [];

  constructor(app: FastifyInstance) {
    app.addHook('onRoute', (options) => {
      const { url } = options;
      const methods = [options.method].flat();
      this.#routes.push(...methods.map((method) => ({ method, url, pattern: patternOf(url), options })));
    });
  }

  /** The routes with what they serve: an operation, or documentation. */
  list(): { method: string; url: string; operation: Operation | null; documentation: boolean }[] {
    return this.#routes.map(({ method, url, options: { config } }) => ({
      method,
      url,
      operation: config?.operation ?? null,
      documentation: config?.documentation ?? false,
    }));
  }

  /** Throws when a route is neither an operation nor documentation: nobody would have said who may use it. */
  check(): void {
    const undeclared = this.list().filter(({ operation, documentation }) => !operation && !documentation);
    if (undeclared.length === 0) return;
    throw new Error(`routes without a declared right: ${undeclared.map(({ url }) => url).join(', ')}`);
  }

  /** The methods an address takes; none when there is nothing at it. */
  methodsAt(path: string): string[] {
    const methods = this.#routes.filter(({ pattern }) => pattern.test(path)).map(({ method }) => method);
    // Each HEAD comes from a GET, of which one is told where a prefix makes two.
    return [...new Set(methods.includes('HEAD') ? ['GET', ...methods] : methods)].toSorted();
  }
}

function patternOf(url: string): RegExp {
  const source = url
    .replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&')
    .replaceAll(/:\w+/g, '[^/]+')
    .replaceAll('*', '.*');
  return new RegExp(`^${source}$`);
}
