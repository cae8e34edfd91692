import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Writable } from 'node:stream';
import { after } from 'node:test';
import { defaultBounds, serverFrame, type ServerFrame } from '@sallyport/protocol';
import fastify, { type FastifyInstance } from 'fastify';
import { WebSocket, type ClientOptions } from 'ws';
import { systemClock } from '../engine/clock.ts';
import type { AuditEntry } from '../engine/ports.ts';
import type { Tickets } from '../engine/tickets.ts';
import { addressReader } from './client-address.ts';
import { TestEngine } from './engine-support.ts';
import { allowedOrigins } from './headers.ts';
import { createHostCheck } from './hosts.ts';
import { Rates } from './rate-limit.ts';
import { addSocket, type SocketParts, type Sockets } from './socket.ts';
import { OpenByKey } from './open-by-key.ts';
import { bearer, listen, localLimiters, memoryJournal, memoryTickets, testKeys } from './testing.ts';

/** Support for the tests of sockets: sockets over a test engine, and a client that holds every frame to its schema. */

export interface SocketApp {
  readonly app: FastifyInstance;
  readonly port: number;
  readonly engine: TestEngine;
  readonly sockets: Sockets;
  readonly tickets: Tickets;
  /** Lines of the journal, unless the test has one of its own. */
  readonly journal: readonly AuditEntry[];
  /** Lines of the log, parsed. */
  readonly log: Record<string, unknown>[];
  /** What the gate says of closing. */
  readonly closing: { now: boolean };
}

const opened: SocketApp[] = [];
const clients: WebSocket[] = [];
// A test that fails leaves sockets open, which would keep the whole file from ending.
after(async () => {
  for (const client of clients) client.terminate();
  for (const { sockets } of opened) sockets.terminate();
  await Promise.all(opened.map(({ app }) => app.close()));
});

/** A server with sockets over a test engine, one key for each role, one ordinary route, and no rate limits. */
export async function socketApp(options: Partial<SocketParts> = {}, keys = testKeys()): Promise<SocketApp> {
  const addressOf = addressReader([]);
  const engine = new TestEngine();
  const log: Record<string, unknown>[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      log.push(JSON.parse(chunk.toString()) as Record<string, unknown>);
      done();
    },
  });
  const app = fastify({ logger: { level: 'debug', stream } });
  app.post('/echo', async ({ body }) => ({ body }));
  const tickets = memoryTickets();
  const { lines, journal } = memoryJournal();
  const closing = { now: false };
  const sockets = addSocket(app, {
    engine,
    gate: {
      credentials: { keys, tickets },
      hosts: createHostCheck('127.0.0.1', ['api.example.com']),
      origins: allowedOrigins(['http://localhost:3000']),
      rates: new Rates({
        limiters: localLimiters(),
        limitsOf: () => ({ perMinute: 0, perHour: 0, burst: 0 }),
        addressOf,
      }),
      journal,
      addressOf,
      open: new OpenByKey(10_000),
      isClosing: () => closing.now,
    },
    bounds: defaultBounds,
    clock: systemClock,
    logger: app.log,
    maxFrameBytes: 100_000,
    heartbeatMs: 15_000,
    ...options,
  });
  const made = { app, port: await listen(app), engine, sockets, tickets, journal: lines, log, closing };
  opened.push(made);
  return made;
}

/** A client that keeps what it is sent. Every frame must be one of the protocol's. */
export class Client {
  readonly socket: WebSocket;
  readonly frames: ServerFrame[] = [];
  readonly closed: Promise<{ code: number; reason: string }>;
  #failure: unknown = null;
  #wake: () => void = () => undefined;

  constructor(socket: WebSocket) {
    this.socket = socket;
    clients.push(socket);
    this.closed = once(socket, 'close').then(([code, reason]) => ({ code: code as number, reason: String(reason) }));
    socket.on('message', (data, isBinary) => {
      try {
        if (isBinary) throw new Error('a frame is binary');
        this.frames.push(serverFrame.parse(JSON.parse((data as Buffer).toString())));
      } catch (error) {
        this.#failure = error;
      }
      this.#wake();
    });
    socket.on('error', () => undefined); // what it comes to is how it closes
    socket.on('close', () => this.#wake());
  }

  send(frame: object | string): void {
    this.socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame));
  }

  /** Takes the oldest frame that was not taken; waits for one. Rejects when the socket closes before there is one. */
  async next(): Promise<ServerFrame> {
    for (;;) {
      if (this.#failure !== null) throw this.#failure;
      const frame = this.frames.shift();
      if (frame) return frame;
      if (this.socket.readyState === WebSocket.CLOSED) throw new Error('the socket closed');
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** Takes frames up to and with the first of the type. */
  async until(type: ServerFrame['type']): Promise<ServerFrame[]> {
    const taken: ServerFrame[] = [];
    for (;;) {
      const frame = await this.next();
      taken.push(frame);
      if (frame.type === type) return taken;
    }
  }

  /** The answer to a ping: by then every frame before it was worked on. */
  async ping(): Promise<ServerFrame[]> {
    this.send({ type: 'ping' });
    return (await this.until('pong')).slice(0, -1);
  }
}

/** Opens a socket, as the user unless the options say otherwise. */
export async function openSocket(port: number, path = '/ws/label', options: ClientOptions = {}): Promise<Client> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, { headers: bearer('user'), ...options });
  const client = new Client(socket);
  await once(socket, 'open');
  return client;
}

export type ErrorFrame = Extract<ServerFrame, { type: 'error' }>;
/** The frame as the error it must be. */
export function errorOf(frame: ServerFrame | undefined): ErrorFrame {
  assert.ok(frame?.type === 'error', JSON.stringify(frame));
  return frame;
}

/** What a frame is refused with. */
export async function refusalOf(client: Client, frame: object | string): Promise<ErrorFrame> {
  client.send(frame);
  return errorOf(await client.next());
}
