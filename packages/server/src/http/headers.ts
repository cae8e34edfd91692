import type { IncomingMessage } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { newId } from '../engine/ids.ts';

const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "font-src 'self'",
  "connect-src 'self'",
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join('; ');

/**
 * Headers of every answer, also of those that are written to a socket before there is a request. The pages of the
 * service load scripts, styles and data from the service only.
 */
export const securityHeaders: Readonly<Record<string, string>> = {
  'content-security-policy': contentSecurityPolicy,
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'origin-agent-cluster': '?1',
  'referrer-policy': 'no-referrer',
  'strict-transport-security': 'max-age=31536000',
  'x-content-type-options': 'nosniff',
  'x-dns-prefetch-control': 'off',
  'x-frame-options': 'DENY',
  'x-permitted-cross-domain-policies': 'none',
};

const exposedHeaders = [
  'X-Request-Id, Retry-After, WWW-Authenticate, Allow, Content-Disposition, Idempotency-Replayed',
  'X-RateLimit-Limit-Minute, X-RateLimit-Remaining-Minute',
  'X-RateLimit-Limit-Hour, X-RateLimit-Remaining-Hour, X-RateLimit-Reset',
].join(', ');

/** The origins that may read answers. Throws when one is not an origin: `*` and paths are refused. */
export function allowedOrigins(origins: readonly string[]): ReadonlySet<string> {
  return new Set(
    origins.map((text) => {
      const origin = URL.canParse(text) ? new URL(text).origin : 'null';
      if (origin === 'null' || origin !== text.replace(/\/$/, '').toLowerCase()) {
        throw new Error(`"${text}" is not an origin: write it as scheme://host[:port]`);
      }
      return origin;
    }),
  );
}

/** The id of a request: the caller's own where it is sane, else a new one. */
export function requestIdOf(raw: IncomingMessage): string {
  const given = raw.headers['x-request-id'];
  return typeof given === 'string' && /^[A-Za-z0-9._-]{1,100}$/.test(given) ? given : newId('req');
}

/** Puts the headers on an answer that every answer has. CORS headers name one allowed origin or are not there. */
export function setCommonHeaders(request: FastifyRequest, reply: FastifyReply, origins: ReadonlySet<string>): void {
  reply.headers(securityHeaders);
  reply.header('x-request-id', request.id);
  reply.header('cache-control', 'no-store');
  reply.header('vary', 'Origin');
  const { origin } = request.headers;
  if (origin === undefined || !origins.has(origin)) return;
  reply.header('access-control-allow-origin', origin);
  reply.header('access-control-allow-credentials', 'true');
  reply.header('access-control-expose-headers', exposedHeaders);
}

/** True for the question a browser asks before a request to another origin. */
export function isPreflight(request: FastifyRequest): boolean {
  const { headers, method } = request;
  return method === 'OPTIONS' && headers.origin !== undefined && headers['access-control-request-method'] !== undefined;
}

/** Answers a preflight of an allowed origin: the methods of the address, and whatever headers the browser asks for. */
export function answerPreflight(
  request: FastifyRequest,
  reply: FastifyReply,
  methods: readonly string[],
): FastifyReply {
  const headers = request.headers['access-control-request-headers'];
  if (headers !== undefined) reply.header('access-control-allow-headers', headers);
  reply.header('access-control-allow-methods', methods.join(', '));
  reply.header('access-control-max-age', '600');
  reply.header('vary', 'Origin, Access-Control-Request-Headers');
  return reply.code(204).send();
}
