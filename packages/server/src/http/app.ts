import fastify, { LogController, type FastifyBaseLogger, type FastifyInstance, type FastifyRequest } from 'fastify';
import { openApiDocument, operations, type Bounds } from '@sallyport/protocol';
import type { Admin, Journal } from '../engine/admin.ts';
import type { Clock } from '../engine/clock.ts';
import type { Engine } from '../engine/engine.ts';
import { SallyportError } from '../engine/errors.ts';
import type { Jobs } from '../engine/jobs.ts';
import type { KeyRing } from '../engine/keys.ts';
import type { Tickets } from '../engine/tickets.ts';
import type { WebhookAdmin } from '../engine/webhook-admin.ts';
import { addAdmission, beginRequest, type Gate } from './admission.ts';
import { parseJson } from './body.ts';
import { addressReader } from './client-address.ts';
import { addDocumentation } from './documentation.ts';
import { answerClientError, answerError, type LastExchange } from './errors.ts';
import { adminHandlers } from './handlers/admin.ts';
import { approvalHandlers } from './handlers/approvals.ts';
import { claudeHandlers, type ClaudeHealth } from './handlers/claude.ts';
import { conversationHandlers } from './handlers/conversations.ts';
import { eventsHandler } from './handlers/events.ts';
import { fileHandlers } from './handlers/files.ts';
import { jobHandlers } from './handlers/jobs.ts';
import { serviceHandlers } from './handlers/service.ts';
import { streamHandler } from './handlers/stream.ts';
import { ticketHandlers } from './handlers/tickets.ts';
import { turnHandlers } from './handlers/turns.ts';
import { webhookHandlers } from './handlers/webhooks.ts';
import { allowedOrigins, requestIdOf } from './headers.ts';
import { createHostCheck } from './hosts.ts';
import { OpenByKey } from './open-by-key.ts';
import { limitsFor, Rates, type Limiters } from './rate-limit.ts';
import { addOperations, RouteBook, type Handlers } from './routes.ts';
import { OpenRuns } from './runs.ts';
import { addSocket } from './socket.ts';
import { OpenStreams } from './sse.ts';

/** Time limits on connections, in milliseconds. */
export interface ConnectionLimits {
  /** For the headers of a request to arrive. */
  readonly headersMs: number;
  /** For a whole request, its body included, to arrive. */
  readonly requestMs: number;
  /** An idle connection is kept for its next request. Longer than the usual proxy keeps one. */
  readonly keepAliveMs: number;
  /** How often the limits are checked. */
  readonly checkMs: number;
}

const maxHeaderBytes = 16_384;

const defaultLimits: ConnectionLimits = { headersMs: 10_000, requestMs: 30_000, keepAliveMs: 72_000, checkMs: 1_000 };

export interface AppOptions {
  readonly version: string;
  readonly engine: Engine;
  readonly jobs: Jobs;
  readonly keys: KeyRing;
  readonly tickets: Tickets;
  readonly admin: Admin;
  readonly webhooks: WebhookAdmin;
  readonly journal: Journal;
  readonly bounds: Bounds;
  readonly clock: Clock;
  readonly logger: FastifyBaseLogger;
  /** Address the server will be bound to; a client may name it as host. */
  readonly host: string;
  /** Further host names that clients may name. */
  readonly publicHosts: readonly string[];
  /** Origins whose pages may use the API. */
  readonly corsOrigins: readonly string[];
  /** Addresses or networks whose word about the client's address counts. */
  readonly trustedProxies: readonly string[];
  /** Most requests of a key in any 60 seconds, and in any hour; 0: no limit. */
  readonly requestsPerMinute: number;
  readonly requestsPerHour: number;
  /** Most requests of a key in any 10 seconds; 0: no limit. */
  readonly burstSize: number;
  /** Most requests and sockets that a key may have open at a time. */
  readonly maxOpenPerKey: number;
  readonly limiters: Limiters;
  /** Largest body, in bytes. */
  readonly maxBodyBytes: number;
  /** Which model answers, as `/health` names it. */
  readonly upstream: string;
  /** Milliseconds of silence after which a stream gets a comment. A client that takes nothing for four of them is cut. */
  readonly heartbeatMs?: number;
  readonly limits?: Partial<ConnectionLimits>;
  /** Names of the parts that fail; none when queries can run. */
  readonly ready: () => Promise<readonly string[]>;
  /** The last known state; never a call. */
  readonly claudeHealth: () => ClaudeHealth;
}

/** What an app knows of itself. */
export interface AppState {
  readonly routes: RouteBook;
  /** Answers that wait for a run. */
  readonly runs: OpenRuns;
  /** Streams of conversations that only follow. */
  readonly readers: OpenStreams;
  /** True once `closeApp` was called. */
  closing: boolean;
  /** Stops every turn, and resolves when their ends are stored. */
  stopTurns(): Promise<void>;
}

declare module 'fastify' {
  interface FastifyInstance {
    readonly appState: AppState;
  }
}

function createServer(options: AppOptions, gate: () => Gate, last: LastExchange): FastifyInstance {
  const limits = { ...defaultLimits, ...options.limits };
  return fastify({
    loggerInstance: options.logger,
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'request_id' }),
    genReqId: requestIdOf,
    requestIdHeader: false,
    bodyLimit: options.maxBodyBytes,
    routerOptions: { maxParamLength: maxHeaderBytes }, // the schema of a parameter bounds it, with an answer of its own
    requestTimeout: limits.requestMs,
    keepAliveTimeout: limits.keepAliveMs,
    return503OnClosing: false,
    http: {
      headersTimeout: limits.headersMs,
      connectionsCheckingInterval: limits.checkMs,
      maxHeaderSize: maxHeaderBytes,
      insecureHTTPParser: false,
      requireHostHeader: false, // the host check answers, with the headers of every answer
    },
    frameworkErrors: (error, request, reply) => {
      beginRequest(gate(), request, reply);
      answerError(error, request, reply);
    },
    clientErrorHandler: (error, socket) => answerClientError(error, socket, last, options.logger),
  });
}

/** What every request is judged by. */
function gateOf(options: AppOptions, state: AppState, last: LastExchange): Gate {
  const { keys, tickets, limiters, requestsPerMinute: perMinute, requestsPerHour: perHour, burstSize: burst } = options;
  const addressOf = addressReader(options.trustedProxies);
  const limits = { perMinute, perHour, burst };
  return {
    credentials: { keys, tickets },
    hosts: createHostCheck(options.host, options.publicHosts),
    origins: allowedOrigins(options.corsOrigins),
    rates: new Rates({ limiters, limitsOf: (principal) => limitsFor(principal, limits), addressOf }),
    journal: options.journal,
    addressOf,
    open: new OpenByKey(options.maxOpenPerKey),
    routes: state.routes,
    clock: options.clock,
    last,
    logger: options.logger,
    isClosing: () => state.closing,
  };
}

function addBodyParser(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, async (request: FastifyRequest, bytes: Buffer) =>
    request.routeOptions.config.operation?.body ? parseJson(bytes) : undefined,
  );
}

/** A client that stops reading an answer is cut after a while, else it would hold its memory for ever. */
function cutStalledAnswers(app: FastifyInstance, stallMs: number): void {
  app.addHook('onSend', async (request, reply) => {
    const { socket } = request.raw;
    if (typeof socket.setTimeout !== 'function') return; // an injected request has no real socket
    socket.setTimeout(stallMs);
    reply.raw.prependOnceListener('finish', () => socket.setTimeout(0)); // before Node sets its own for the idle time
  });
}

/**
 * Makes the HTTP app over an engine, ready but not listening. Listen on an address: on `localhost` Node may open a
 * second server that the limits do not reach. Close it with `closeApp`. Throws when an option is not valid or a route
 * has no declared right.
 */
export async function createApp(options: AppOptions): Promise<FastifyInstance> {
  const { engine, clock, version, bounds } = options;
  const heartbeatMs = options.heartbeatMs ?? 15_000;
  const table = operations(bounds);
  const last: LastExchange = new WeakMap();
  const app = createServer(options, () => gate, last);
  const state: AppState = {
    routes: new RouteBook(app),
    runs: new OpenRuns(),
    readers: new OpenStreams(heartbeatMs),
    closing: false,
    stopTurns: () => engine.close(),
  };
  const isClosing = () => state.closing;
  const { logger: log } = options;
  const reading = { streams: state.readers, log, isClosing };
  const running = { ...reading, streams: new OpenStreams(heartbeatMs), heartbeatMs };
  const gate = gateOf(options, state, last);
  const handlers: Handlers = {
    ...serviceHandlers(options, isClosing),
    ...claudeHandlers(engine, state.runs, options.claudeHealth),
    stream: streamHandler(engine, state.runs, running),
    ...adminHandlers(options.admin),
    ...conversationHandlers(engine),
    ...turnHandlers(engine, state.runs, running),
    ...fileHandlers(engine),
    ...approvalHandlers(engine),
    ...ticketHandlers(options.tickets),
    ...webhookHandlers(options.webhooks),
    ...jobHandlers(options.jobs, reading),
    conversationEvents: eventsHandler(engine, reading),
  };
  app.decorate('appState', state);
  const { logger, maxBodyBytes: maxFrameBytes } = options;
  app.decorate('sockets', addSocket(app, { engine, gate, bounds, clock, logger, maxFrameBytes, heartbeatMs }));
  app.setErrorHandler(answerError);
  app.setNotFoundHandler(() => {
    throw new SallyportError('not_found');
  });
  addAdmission(app, gate);
  addBodyParser(app);
  cutStalledAnswers(app, 4 * heartbeatMs);
  addOperations(app, table, handlers);
  await addDocumentation(app, openApiDocument(version, bounds));
  await app.ready();
  state.routes.check();
  return app;
}
