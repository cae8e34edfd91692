import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ErrorCode } from '@sallyport/protocol';
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify';
import type { SallyportError } from '../engine/errors.ts';
import type { Clock } from '../engine/clock.ts';
import type { KeyRing, KeyWatcher } from '../engine/keys.ts';
import type { Principal } from '../engine/principal.ts';
import type { LastExchange } from './errors.ts';
import type { OpenByKey } from './open-by-key.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Aborted, as `Watch.gone` is, when the key of whoever asks is not valid any more; null on public routes. */
    keyGone: AbortSignal | null;
    /** True once an answer was handed over to be sent. */
    answering: boolean;
  }
}

/** Milliseconds in which an answer that has begun may end by itself once its key is gone. */
const graceMs = 500;

/** What an exchange needs of its app. */
export interface Hall {
  readonly credentials: { readonly keys: KeyRing };
  readonly open: OpenByKey;
  /** The exchange that a connection had last, as long as something is owed to it. */
  readonly last: LastExchange;
  readonly clock: Clock;
  readonly logger: FastifyBaseLogger;
  readonly addressOf: (raw: IncomingMessage) => string;
}

/** An answer that may last: what it wants to know of its exchange. */
export interface LongAnswer {
  /** The client has left, or all was sent. */
  closed(): void;
  /** The key is not valid any more. An answer that does not end soon is cut. */
  keyGone(reason: SallyportError): void;
}

const exchanges = new WeakMap<ServerResponse, Exchange>();

/** The exchange of an answer. Throws when none was begun. */
export function exchangeOf(response: ServerResponse): Exchange {
  const found = exchanges.get(response);
  if (!found) throw new Error('a request was not begun');
  return found;
}

function finished(this: ServerResponse): void {
  exchangeOf(this).finished();
}

function closed(this: ServerResponse): void {
  exchangeOf(this).closed();
}

/** Answered under every host name and while the service closes, as whoever probes knows only its address. */
const probes: ReadonlySet<string> = new Set(['health', 'livez', 'readyz']);

/** True for those requests. */
export const isProbe = (request: FastifyRequest): boolean =>
  probes.has(request.routeOptions.config.operation?.id ?? '');

const ignored = (): void => undefined;

/**
 * A request and its answer, from their beginning to the end of the connection or the answer: holds the place of its key,
 * watches the key, and writes the line of the log. An answer that may last takes the place of all that the framework holds.
 */
export class Exchange implements KeyWatcher {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly #hall: Hall;
  readonly #started: number;
  /** The framework's own; null when it was let go. */
  #framed: FastifyRequest | null;
  /** What is kept of it then. */
  #kept: { readonly id: string; readonly route: string | null; readonly client: string } | null = null;
  #failure: ErrorCode | null = null;
  /** Whoever has entered. */
  #principal: Principal | null = null;
  #gone: AbortController | null = null;
  #answer: LongAnswer | null = null;
  #cut: NodeJS.Timeout | undefined;
  #complete = false;

  constructor(hall: Hall, request: FastifyRequest, { raw }: FastifyReply) {
    this.request = request.raw;
    this.response = raw;
    this.#hall = hall;
    this.#started = hall.clock.monotonic();
    this.#framed = request;
    exchanges.set(raw, this);
    raw.on('finish', finished);
    raw.on('close', closed);
  }

  /** Lets a principal in: takes a place of its key and watches it until the end. Throws `overloaded`. */
  enter(principal: Principal): void {
    const { open, credentials } = this.#hall;
    open.enter(principal);
    this.#principal = principal;
    this.#gone = new AbortController();
    if (this.#framed) this.#framed.keyGone = this.#gone.signal;
    credentials.keys.addWatcher(principal, this);
    if (this.response.destroyed) this.#leave();
  }

  /**
   * Lets an answer go on without the framework, whose objects are many for each request. Gives the headers that the
   * answer has to have. Throws `invalid_key` when the key is gone.
   */
  letGo(reply: FastifyReply, answer: LongAnswer): Record<string, number | string | string[] | undefined> {
    const { request, raw } = reply;
    request.keyGone?.throwIfAborted();
    const headers = reply.getHeaders();
    reply.hijack();
    request.answering = true;
    this.#answer = answer;
    this.#kept = { id: request.id, route: request.routeOptions.url ?? null, client: this.#hall.addressOf(request.raw) };
    this.#failure = request.failure ?? null;
    this.#framed = null;
    this.#gone = null;
    // The framework waits for the end of an answer, and holds its objects, though it has nothing to do then.
    for (const listener of raw.listeners('error') as (() => void)[]) raw.off('error', listener).off('finish', listener);
    raw.on('error', ignored); // the connection closes
    request.raw.rawHeaders = [];
    request.raw.headers = {};
    return headers;
  }

  keyGone(reason: SallyportError): void {
    if (this.#framed) this.#framed.failure ??= 'invalid_key';
    this.#failure ??= 'invalid_key';
    this.#gone?.abort(reason);
    this.#answer?.keyGone(reason);
    this.#cut = setTimeout(() => {
      // Else the handler has not been asked yet, and will not be.
      if (this.#framed?.answering !== false) this.response.destroy();
    }, graceMs);
  }

  finished(): void {
    this.#complete = true;
  }

  closed(): void {
    this.#answer?.closed();
    this.#log();
    this.#leave();
    const { last } = this.#hall;
    const { socket, complete } = this.request;
    // Else a connection that is kept would hold the request with its body.
    if (complete && this.#complete && last.get(socket) === this) last.delete(socket);
  }

  #leave(): void {
    clearTimeout(this.#cut);
    const principal = this.#principal;
    this.#principal = null;
    if (!principal) return;
    this.#hall.open.leave(principal);
    this.#hall.credentials.keys.removeWatcher(principal, this);
  }
  #log(): void {
    const { response } = this;
    const framed = this.#framed;
    const { clock, addressOf, logger } = this.#hall;
    const whose = framed ? framed.principal : this.#principal;
    const line = {
      request_id: this.#kept?.id ?? framed?.id,
      method: this.request.method,
      route: this.#kept?.route ?? framed?.routeOptions.url ?? null,
      status: response.statusCode,
      code: framed?.failure ?? this.#failure,
      complete: this.#complete,
      duration_ms: Math.round(clock.monotonic() - this.#started),
      client: this.#kept?.client ?? addressOf(this.request),
      tenant: whose?.tenant ?? null,
      by: whose?.key ?? null,
    };
    if (framed && isProbe(framed)) logger.debug(line, 'request');
    else logger.info(line, 'request');
  }
}
