import { connect, type AddressInfo } from 'node:net';
import { Writable } from 'node:stream';
import { after } from 'node:test';
import { defaultBounds } from '@sallyport/protocol';
import fastify, { type FastifyInstance } from 'fastify';
import { LocalLimiter } from '../coordination/local.ts';
import { systemClock, type Clock } from '../engine/clock.ts';
import { createKeyRing } from '../engine/keys.ts';
import type { TicketStore } from '../engine/ports.ts';
import type { Role } from '../engine/principal.ts';
import { createTickets, type Tickets } from '../engine/tickets.ts';
import { createApp, type AppOptions } from './app.ts';
import { closeApp } from './close.ts';
import { TestEngine } from './engine-support.ts';
import type { Limiters } from './rate-limit.ts';

/** Support for the tests of the transport: an app over a test engine, and ways to ask it. */

export const roles = ['admin', 'operator', 'user', 'viewer'] as const satisfies readonly Role[];
export const secretOf = (role: Role): string => `secret-of-${role}`;
export const bearer = (role: Role): Record<string, string> => ({ authorization: `Bearer ${secretOf(role)}` });

export const localLimiters = (clock: Clock = systemClock): Limiters => ({
  keys: new LocalLimiter({ clock }),
  addresses: new LocalLimiter({ clock }),
});

/** Tickets that are kept in memory. */
export function memoryTickets(clock: Clock = systemClock): Tickets {
  const kept = new Map<string, { tenant: string; key: string; expiresAt: number }>();
  const store: TicketStore = {
    async put(hash, ticket) {
      kept.set(hash, ticket);
    },
    async take(hash, now) {
      const found = kept.get(hash);
      kept.delete(hash);
      return found && found.expiresAt > now ? found : null;
    },
    sweep: async () => undefined,
  };
  return createTickets(store, clock);
}

export interface TestApp {
  readonly app: FastifyInstance;
  readonly engine: TestEngine;
  /** Lines of the log, parsed. */
  readonly log: Record<string, unknown>[];
}

const made: FastifyInstance[] = [];
// A test that fails leaves its app open, which would keep the whole file from ending.
after(() => Promise.all(made.map((app) => closeApp(app, 0))));

/** An app over a test engine, with one key for each role and without rate limits. */
export async function testApp(options: Partial<AppOptions> = {}): Promise<TestApp> {
  const engine = new TestEngine();
  const log: Record<string, unknown>[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      log.push(JSON.parse(chunk.toString()) as Record<string, unknown>);
      done();
    },
  });
  const app = await createApp({
    version: '1.2.3',
    engine,
    keys: createKeyRing(roles.map((role) => ({ name: role, role, tenant: 'default', secret: secretOf(role) }))),
    tickets: memoryTickets(),
    bounds: defaultBounds,
    clock: systemClock,
    logger: fastify({ logger: { level: 'debug', stream } }).log,
    host: '127.0.0.1',
    publicHosts: ['api.example.com'],
    corsOrigins: ['http://localhost:3000'],
    trustedProxies: [],
    requestsPerMinute: 0,
    requestsPerHour: 0,
    burstSize: 0,
    limiters: localLimiters(),
    maxBodyBytes: 1_000_000,
    upstream: 'simulator',
    ready: async () => [],
    claudeHealth: () => ({ status: 'healthy', claude_available: true, error: null }),
    ...options,
  });
  made.push(app);
  return { app, engine, log };
}

/** Starts listening on a free port of 127.0.0.1 and gives it. */
export async function listen(app: FastifyInstance): Promise<number> {
  await app.listen({ host: '127.0.0.1', port: 0 });
  return (app.server.address() as AddressInfo).port;
}

export const queryBody = JSON.stringify({ prompt: 'x' });

/** Sends a query to an address of the service, as its user. */
export function postQuery(port: number, path: string, signal?: AbortSignal): Promise<Response> {
  return fetch(`http://127.0.0.1:${port}${path}`, {
    method: 'POST',
    headers: { ...bearer('user'), 'content-type': 'application/json' },
    body: queryBody,
    ...(signal && { signal }),
  });
}

/** Sends bytes over a connection of its own and gives all that comes back until the server closes it. */
export function exchange(port: number, ...parts: (string | Buffer)[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    let received = '';
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => (received += text));
    socket.on('close', () => resolve(received));
    socket.on('error', (error) => (received === '' ? reject(error) : resolve(received)));
    for (const part of parts) socket.write(part);
  });
}

/** Tries until the check passes. Gives up after many seconds, so that a test that never passes ends. */
export async function eventually(check: () => boolean): Promise<void> {
  for (let tries = 0; !check(); tries += 1) {
    if (tries === 3000) throw new Error(`it never came true: ${check.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
