import { connect, type AddressInfo } from 'node:net';
import { Writable } from 'node:stream';
import { after } from 'node:test';
import { defaultBounds } from '@sallyport/protocol';
import fastify, { type FastifyInstance } from 'fastify';
import { LocalLimiter } from '../coordination/local.ts';
import type { Admin } from '../engine/admin.ts';
import { systemClock, type Clock } from '../engine/clock.ts';
import { createJournal } from '../engine/journal.ts';
import type { Jobs } from '../engine/jobs.ts';
import { keyRecord, MemoryKeys, ringOf } from '../engine/keys-support.ts';
import type { KeyRing } from '../engine/keys.ts';
import type { AuditEntry, KeyRecord, TicketOwner, TicketStore } from '../engine/ports.ts';
import type { Principal, Role } from '../engine/principal.ts';
import { createTickets, type Tickets } from '../engine/tickets.ts';
import type { WebhookAdmin } from '../engine/webhook-admin.ts';
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

/** The principal of the key of a role. */
export const principalOf = (role: Role, changes: Partial<Principal> = {}): Principal => ({
  tenant: 'default',
  key: role,
  secretHash: null,
  role,
  narrowing: null,
  expiresAt: null,
  ...changes,
});

/** A ring of one configured key for each role, and of those of the store. */
export function testKeys(stored = new MemoryKeys(systemClock)): KeyRing {
  const configured = roles.map((role) => ({ name: role, role, tenant: 'default', secret: secretOf(role) }));
  return ringOf(configured, stored, systemClock);
}

/** A ring with a stored key of a role besides, whose secret is `secret-of-` and its name, and what ends it. */
export async function keysWith(name: string, changes: Partial<KeyRecord> = {}) {
  const stored = new MemoryKeys(systemClock);
  await stored.add(keyRecord(name, changes));
  const revoke = () => stored.revoke(changes.tenant ?? 'default', name, systemClock.now());
  return { keys: testKeys(stored), stored, revoke, headers: { authorization: `Bearer secret-of-${name}` } };
}

/** A journal in memory, with its lines. */
export function memoryJournal(clock: Clock = systemClock) {
  const lines: AuditEntry[] = [];
  const append = async (entries: readonly AuditEntry[]) => void lines.push(...entries);
  return { lines, journal: createJournal({ audit: { append }, clock }) };
}

/** What administers nothing: every function rejects but those that a test sets. */
export type TestAdmin = { -readonly [K in keyof Admin]: Admin[K] };

/** The same of webhooks. */
export type TestWebhooks = { -readonly [K in keyof WebhookAdmin]: WebhookAdmin[K] };

/** The same of jobs. */
export type TestJobs = { -readonly [K in keyof Jobs]: Jobs[K] };

const unset = (name: PropertyKey): Promise<never> => Promise.reject(new Error(`no test has set ${String(name)}`));

function settable<T extends object>(set: Partial<T>): T {
  const get = (_: object, name: PropertyKey): unknown => Reflect.get(set, name) ?? (() => unset(name));
  return new Proxy(set, { get }) as T;
}

function testAdmin(): TestAdmin {
  return settable<TestAdmin>({
    exportAudit: async function* exportAudit() {
      yield await unset('exportAudit');
    },
  });
}

/** Tickets that are kept in memory. */
export function memoryTickets(clock: Clock = systemClock): Tickets {
  const kept = new Map<string, TicketOwner & { expiresAt: number }>();
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
  readonly admin: TestAdmin;
  readonly webhooks: TestWebhooks;
  readonly jobs: TestJobs;
  /** Lines of the journal, unless the test has one of its own. */
  readonly journal: readonly AuditEntry[];
  /** Lines of the log, parsed. */
  readonly log: Record<string, unknown>[];
}

const made: FastifyInstance[] = [];
// A test that fails leaves its app open, which would keep the whole file from ending.
after(() => Promise.all(made.map((app) => closeApp(app, 0))));

/** An app over a test engine, with one key for each role and without rate limits. */
export async function testApp(options: Partial<AppOptions> = {}): Promise<TestApp> {
  const engine = new TestEngine();
  const admin = testAdmin();
  const webhooks = settable<TestWebhooks>({});
  const jobs = settable<TestJobs>({});
  const { lines, journal } = memoryJournal();
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
    keys: testKeys(),
    tickets: memoryTickets(),
    admin,
    webhooks,
    jobs,
    journal,
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
    maxOpenPerKey: 10_000,
    limiters: localLimiters(),
    maxBodyBytes: 1_000_000,
    upstream: 'simulator',
    ready: async () => [],
    claudeHealth: () => ({ status: 'healthy', claude_available: true, error: null }),
    ...options,
  });
  made.push(app);
  return { app, engine, admin, webhooks, jobs, journal: lines, log };
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
