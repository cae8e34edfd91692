import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Operation } from '@sallyport/protocol';
import type { FastifyBaseLogger, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Clock } from '../engine/clock.ts';
import { SallyportError } from '../engine/errors.ts';
import { authenticate, letIn, type Credentials, type Door } from './auth.ts';
import { checkBodyHeaders } from './body.ts';
import type { LastExchange } from './errors.ts';
import { Exchange, exchangeOf, isProbe } from './exchange.ts';
import { answerPreflight, isPreflight, setCommonHeaders } from './headers.ts';
import type { HostCheck } from './hosts.ts';
import { addKeyWatch } from './key-watch.ts';
import type { OpenByKey } from './open-by-key.ts';
import type { RouteBook } from './routes.ts';

/** What a request is judged by before any of its body is read. */
export interface Gate extends Door {
  readonly credentials: Credentials;
  readonly hosts: HostCheck;
  readonly origins: ReadonlySet<string>;
  readonly open: OpenByKey;
  readonly routes: RouteBook;
  readonly clock: Clock;
  readonly last: LastExchange;
  readonly logger: FastifyBaseLogger;
  readonly isClosing: () => boolean;
}

/** Sets the headers of every answer and writes one line to the log when the answer is over. */
export function beginRequest(gate: Gate, request: FastifyRequest, reply: FastifyReply): void {
  gate.last.set(request.raw.socket, new Exchange(gate, request, reply));
  setCommonHeaders(request, reply, gate.origins);
}

/** The path of a request's target, which may also name the host. */
function pathOf(target: string): string {
  return target.replace(/^https?:\/\/[^/?#]*/i, '').replace(/[?#].*$/s, '');
}

/** Answers what no route matched: a preflight, or `method_not_allowed` with the methods there are, or `not_found`. */
function answerUnmatched(gate: Gate, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const methods = gate.routes.methodsAt(pathOf(request.url));
  if (methods.length === 0) throw new SallyportError('not_found');
  if (isPreflight(request)) {
    if (!gate.origins.has(request.headers.origin ?? '')) throw new SallyportError('origin_not_allowed');
    return answerPreflight(request, reply, methods);
  }
  reply.header('allow', methods.join(', '));
  throw new SallyportError('method_not_allowed');
}

/** A browser names the origin of the page that asks. Pages of strangers have no business with the API. */
function checkOrigin(gate: Gate, request: FastifyRequest): void {
  const { origin } = request.headers;
  if (origin === undefined || gate.origins.has(origin) || gate.hosts.isOwnOrigin(origin, request.raw)) return;
  throw new SallyportError('origin_not_allowed');
}

/** Lets the key of a request in, where one is needed, and watches it from then on. */
async function admitKey(gate: Gate, request: FastifyRequest, reply: FastifyReply, operation: Operation): Promise<void> {
  const { id, right, method, path, uncounted: free = false } = operation;
  if (right === 'public') return;
  const find = () => authenticate(request, operation, gate.credentials);
  try {
    const principal = await letIn(request.raw, gate, { find, right, operation: id, free });
    exchangeOf(reply.raw).enter(principal);
    if (method === 'GET' && path.startsWith('/api/admin/')) await gate.journal.read(principal, id);
  } finally {
    reply.headers(gate.rates.headersOf(request.raw));
  }
}

/** Judges a request by its route and headers, in this order: closing, host, route, origin, key, right, rate. */
async function admit(gate: Gate, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply | undefined> {
  const { operation, documentation } = request.routeOptions.config;
  if ((request.headers.expect ?? '100-continue').toLowerCase() !== '100-continue') {
    throw new SallyportError('bad_request');
  }
  if (!isProbe(request)) {
    if (gate.isClosing()) throw new SallyportError('not_ready');
    if (!gate.hosts.allows(request.raw)) throw new SallyportError('host_not_allowed');
  }
  if (request.is404) return answerUnmatched(gate, request, reply);
  if (documentation) return undefined;
  if (!operation) throw new SallyportError('internal', { cause: new Error('a route has no operation') });
  if (operation.path.startsWith('/api/')) checkOrigin(gate, request);
  await admitKey(gate, request, reply, operation);
  if (!isProbe(request) && gate.isClosing()) throw new SallyportError('not_ready'); // meanwhile
  return undefined;
}

/** Adds what happens to every request before its body is read. */
export function addAdmission(app: FastifyInstance, gate: Gate): void {
  app.decorateRequest('principal', null);
  app.decorateRequest('failure', null);
  addKeyWatch(app);
  app.addHook('onRequest', async (request, reply) => {
    beginRequest(gate, request, reply);
    return admit(gate, request, reply);
  });
  app.addHook('preParsing', async (request, reply) => {
    const { bodyLimit, config } = request.routeOptions;
    if (config.operation?.body) checkBodyHeaders(request.raw, bodyLimit);
    if (request.headers.expect !== undefined) reply.raw.writeContinue();
  });
  // Without these Node itself would invite the body, or refuse, before the key was looked at.
  const route = (raw: IncomingMessage, response: ServerResponse) => app.routing(raw, response);
  app.server.on('checkContinue', route);
  app.server.on('checkExpectation', route);
}
