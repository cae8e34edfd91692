import { STATUS_CODES, type IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { connectionPath, socketTicketPrefix } from '@sallyport/protocol';
import { SallyportError } from '../engine/errors.ts';
import type { Principal } from '../engine/principal.ts';
import type { Gate } from './admission.ts';
import { letIn, redeemTicket, type Door } from './auth.ts';
import { bodyOf, wholeSeconds } from './errors.ts';
import { securityHeaders } from './headers.ts';
import { valuesOf } from './hosts.ts';
import { parsePart } from './validation.ts';

/** What a request for a socket is judged by. */
export type SocketGate = Door & Pick<Gate, 'credentials' | 'hosts' | 'origins' | 'open' | 'isClosing'>;

/** Who opens a socket, and what the caller names it. */
export interface Visitor {
  readonly principal: Principal;
  readonly connectionId: string;
}

const target = /^(?<route>\/(?:api\/claude\/)?ws\/)(?<id>[^/?#]*)(?:\?(?<query>[^#]*))?$/;

/** The address of a socket without what its caller chose, for logs. */
export const socketRoute = ({ url = '' }: IncomingMessage): string =>
  `${target.exec(url)?.groups?.['route'] ?? ''}:connection_id`;

/** True for a request that asks for a socket at its address. Any other `Upgrade` is not looked at. */
export function asksForSocket({ method, headers, url = '' }: IncomingMessage): boolean {
  return method === 'GET' && headers.upgrade?.toLowerCase() === 'websocket' && target.test(url);
}

/** The label of the address; empty, which none is, when it cannot be decoded. */
function connectionIdOf({ url = '' }: IncomingMessage): string {
  try {
    return decodeURIComponent(target.exec(url)?.groups?.['id'] ?? '');
  } catch {
    return '';
  }
}

/** The tickets that a request carries, in its address or among the subprotocols it offers. */
function ticketsOf(raw: IncomingMessage): string[] {
  const query = new URLSearchParams(target.exec(raw.url ?? '')?.groups?.['query']);
  const offered = valuesOf(raw, 'sec-websocket-protocol').flatMap((value) => value.split(/[ \t]*,[ \t]*/));
  const tickets = offered.filter((name) => name.startsWith(socketTicketPrefix));
  return [...query.getAll('ticket'), ...tickets.map((name) => name.slice(socketTicketPrefix.length))];
}

/** The principal of a request's key, or of its ticket when it has no key. */
async function principalOf(raw: IncomingMessage, { credentials }: SocketGate): Promise<Principal> {
  const keys = valuesOf(raw, 'authorization');
  const secrets = keys.length > 0 ? keys.map((value) => /^Bearer +(\S+) *$/i.exec(value)?.[1] ?? '') : ticketsOf(raw);
  const [secret = '', ...others] = secrets;
  if (secret === '' || others.length > 0) throw new SallyportError('unauthenticated');
  if (keys.length > 0) {
    const principal = await credentials.keys.authenticate(secret);
    if (!principal) throw new SallyportError('invalid_key');
    return principal;
  }
  const principal = await redeemTicket(secret, credentials);
  if (principal) return principal;
  throw new SallyportError('invalid_key', { detail: 'The ticket is unknown, used or expired. Ask for another one.' });
}

/**
 * Judges a request for a socket, in this order: closing, host, origin, key or ticket, right, rate, address. A ticket is used
 * up by being looked at. Throws what the request is to be answered with.
 */
export async function admitSocket(raw: IncomingMessage, gate: SocketGate): Promise<Visitor> {
  if (gate.isClosing()) throw new SallyportError('not_ready');
  if (!gate.hosts.allows(raw)) throw new SallyportError('host_not_allowed');
  const { origin } = raw.headers;
  if (origin !== undefined && !gate.origins.has(origin) && !gate.hosts.isOwnOrigin(origin, raw)) {
    throw new SallyportError('origin_not_allowed');
  }
  const find = () => principalOf(raw, gate);
  const principal = await letIn(raw, gate, { find, right: 'run', operation: 'webSocket', free: false });
  const path = parsePart(connectionPath, { connection_id: connectionIdOf(raw) }, 'path');
  if (gate.isClosing()) throw new SallyportError('not_ready'); // it may have begun while the ticket was looked up
  return { principal, connectionId: path.connection_id };
}

/** Answers a request for a socket with an error instead, and `more` headers, and closes its connection. */
export function refuseSocket(
  connection: Duplex,
  error: SallyportError,
  requestId: string,
  more: Readonly<Record<string, string>>,
): void {
  const { status, retryAfter } = error;
  const body = JSON.stringify(bodyOf(error, requestId));
  const headers = {
    ...securityHeaders,
    'x-request-id': requestId,
    'cache-control': 'no-store',
    'content-type': 'application/json; charset=utf-8',
    'content-length': String(Buffer.byteLength(body)),
    'sec-websocket-version': '13',
    ...(status === 401 && { 'www-authenticate': 'Bearer' }),
    ...(retryAfter !== undefined && { 'retry-after': wholeSeconds(retryAfter) }),
    ...more,
    connection: 'close',
  };
  const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  connection.once('finish', () => connection.destroy());
  connection.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${head.join('')}\r\n${body}`);
}
