import { STATUS_CODES, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { ErrorBody, ErrorCode } from '@sallyport/protocol';
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify';
import { SallyportError } from '../engine/errors.ts';
import { newId } from '../engine/ids.ts';
import { securityHeaders } from './headers.ts';
import { RateLimitedError } from './rate-limit.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Code of the error the request was answered with. */
    failure: ErrorCode | null;
  }
}

/** The framework's refusals that have a code of their own; its other 4xx are `bad_request`. */
const frameworkStatuses: Readonly<Record<number, ErrorCode>> = {
  404: 'not_found',
  408: 'request_timeout',
  413: 'body_too_large',
  415: 'unsupported_media_type',
  431: 'headers_too_large',
};

function frameworkCode(thrown: unknown, request: FastifyRequest): ErrorCode | null {
  if (request.raw.destroyed && !request.raw.complete) return 'bad_request'; // the client left while it sent its body
  if (!(thrown instanceof Error)) return null;
  const { code, statusCode } = thrown as { code?: unknown; statusCode?: unknown };
  const fromFramework =
    (typeof code === 'string' && code.startsWith('FST_')) || request.routeOptions.config.documentation === true;
  if (!fromFramework || typeof statusCode !== 'number' || statusCode < 400 || statusCode > 499) return null;
  return frameworkStatuses[statusCode] ?? 'bad_request';
}

/** Makes any thrown value an error of the catalogue. What the framework did not refuse and nobody named is `internal`. */
function toSallyportError(thrown: unknown, request: FastifyRequest): SallyportError {
  if (thrown instanceof SallyportError) return thrown;
  const code = frameworkCode(thrown, request);
  return code ? new SallyportError(code) : SallyportError.from(thrown); // the framework's own text quotes the address
}

function detailOf(error: SallyportError): ErrorBody['detail'] {
  if (!(error instanceof RateLimitedError)) return error.issues ? [...error.issues] : error.detail;
  const { perMinute: requests_per_minute, perHour: requests_per_hour, burst: burst_size } = error.limits;
  const limits = { requests_per_minute, requests_per_hour, burst_size };
  return { error: 'Rate limit exceeded', limits, retry_after: error.retryAfter ?? 1 };
}

/** The body of an answer that is an error. */
export function bodyOf(error: SallyportError, requestId: string): ErrorBody {
  return { detail: detailOf(error), code: error.code, request_id: requestId, retryable: error.retryable };
}

/** Seconds as `Retry-After` has them. */
export const wholeSeconds = (seconds: number): string => String(Math.max(1, Math.ceil(seconds)));

/** True when more of the request may still come than the service is willing to read and throw away. */
function leavesTooMuchUnread(request: FastifyRequest): boolean {
  const { complete, headers } = request.raw;
  if (complete) return false;
  const length = Number(headers['content-length'] ?? 0);
  const limit = request.server.initialConfig.bodyLimit ?? 0;
  return headers['transfer-encoding'] !== undefined || headers.expect !== undefined || !(length <= limit);
}

/** Takes back what was said about a body that failed before its first byte: the error has one of its own. */
function forgetBody(reply: FastifyReply): void {
  if (reply.raw.headersSent) return;
  for (const name of ['content-type', 'content-length', 'content-disposition']) {
    reply.removeHeader(name);
    reply.raw.removeHeader(name);
  }
}

/** Answers a request with an error of the catalogue. Only the log sees the cause. */
export function answerError(thrown: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const error = toSallyportError(thrown, request);
  request.failure = error.code;
  if (error.status >= 500) request.log.error({ err: error.cause ?? error, code: error.code }, 'request failed');
  else if (error.cause !== undefined) request.log.info({ err: error.cause, code: error.code }, 'request refused');
  if (error.status === 401) reply.header('www-authenticate', 'Bearer');
  if (error.retryAfter !== undefined) reply.header('retry-after', wholeSeconds(error.retryAfter));
  forgetBody(reply);
  if (leavesTooMuchUnread(request)) reply.header('connection', 'close');
  return reply.code(error.status).send(bodyOf(error, request.id));
}

const socketCodes: Readonly<Record<string, ErrorCode>> = {
  HPE_HEADER_OVERFLOW: 'headers_too_large',
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 'body_too_large',
  ERR_HTTP_REQUEST_TIMEOUT: 'request_timeout',
};

/** The last request of a socket, and its answer. */
export type LastExchange = WeakMap<Socket, { readonly request: IncomingMessage; readonly response: ServerResponse }>;

/**
 * Answers what never became a request: bytes that are not HTTP, headers that are too large or too slow. Writes only
 * where no other answer is owed or has begun on the socket, and always closes it.
 */
export function answerClientError(error: Error, socket: Socket, last: LastExchange, log: FastifyBaseLogger): void {
  const cause = (error as NodeJS.ErrnoException).code ?? 'unknown';
  const { request, response } = last.get(socket) ?? {};
  // What is written while an answer is owed to a whole request, or has begun, would be taken for it.
  const isWhole = request?.complete === true && request.httpVersionMajor > 0;
  const owes = response !== undefined && (isWhole ? !response.writableFinished : response.headersSent);
  if (!socket.writable || cause === 'ECONNRESET' || owes) {
    socket.destroy();
    return;
  }
  const refused = new SallyportError(socketCodes[cause] ?? 'bad_request');
  const requestId = newId('req');
  log.info({ request_id: requestId, code: refused.code, cause }, 'connection refused');
  const body = JSON.stringify(bodyOf(refused, requestId));
  const headers = {
    ...securityHeaders,
    'x-request-id': requestId,
    'cache-control': 'no-store',
    'content-type': 'application/json; charset=utf-8',
    'content-length': String(Buffer.byteLength(body)),
    connection: 'close',
  };
  const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(`HTTP/1.1 ${refused.status} ${STATUS_CODES[refused.status]}\r\n${head.join('')}\r\n${body}`);
  socket.destroySoon();
}
