import { isIP } from 'node:net';
import type { FastifyRequest } from 'fastify';

/**
 * The address of the client: of the socket, or what the trusted proxies in front of the service say. Text that is no
 * address is never returned.
 */
export function clientAddress(request: FastifyRequest): string {
  const forwarded = request.ip;
  const address = isIP(forwarded) ? forwarded : (request.raw.socket.remoteAddress ?? 'unknown');
  return address.replace(/^::ffff:(?=\d+\.)/i, '');
}
