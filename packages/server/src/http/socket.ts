import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { socketFrames, socketProtocol, type Bounds, type SocketFrames } from '@sallyport/protocol';
import type { FastifyBaseLogger, FastifyInstance } from 'fastify';
import { WebSocketServer, type ServerOptions, type WebSocket } from 'ws';
import type { Clock } from '../engine/clock.ts';
import type { Engine } from '../engine/engine.ts';
import { SallyportError } from '../engine/errors.ts';
import { requestIdOf } from './headers.ts';
import {
  admitSocket,
  asksForSocket,
  refuseSocket,
  socketRoute,
  type SocketGate,
  type Visitor,
} from './socket-admission.ts';
import { Session } from './socket-session.ts';

declare module 'fastify' {
  interface FastifyInstance {
    readonly sockets: Sockets;
  }
}

/** Milliseconds that a client gets to answer a close. */
const closeTimeout = 3_000;

/** What the sockets of an app are made of. */
export interface SocketParts {
  readonly engine: Engine;
  readonly gate: SocketGate;
  readonly bounds: Bounds;
  readonly clock: Clock;
  readonly logger: FastifyBaseLogger;
  /** Largest frame of a client, in bytes. A larger one is closed with 1009. */
  readonly maxFrameBytes: number;
  /** Milliseconds between pings. A client that answers none of two is cut; one that takes nothing for four is closed. */
  readonly heartbeatMs: number;
}

/** The open sockets of an app. */
export class Sockets {
  readonly #parts: SocketParts;
  readonly #frames: SocketFrames;
  readonly #server: WebSocketServer;
  readonly #sessions = new Set<Session>();

  constructor(parts: SocketParts) {
    this.#parts = parts;
    this.#frames = socketFrames(parts.bounds);
    const options: ServerOptions & { closeTimeout: number } = {
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: parts.maxFrameBytes,
      closeTimeout,
      handleProtocols: (offered) => (offered.has(socketProtocol) ? socketProtocol : false),
    };
    this.#server = new WebSocketServer(options);
    // A request that asked for a socket, but not as the protocol has it.
    this.#server.on('wsClientError', (cause, connection, raw) => {
      this.#refuse(raw, connection, requestIdOf(raw), new SallyportError('bad_request', { cause }));
    });
    this.#server.on('headers', (lines, raw) => {
      for (const [name, value] of Object.entries(parts.gate.rates.headersOf(raw))) lines.push(`${name}: ${value}`);
    });
  }

  get size(): number {
    return this.#sessions.size;
  }

  /** Tells every client where to go on, and closes its socket. One that does not answer is cut after seconds. */
  goAway(): void {
    for (const session of this.#sessions) session.goAway();
  }

  /** Cuts every socket. */
  terminate(): void {
    for (const session of this.#sessions) session.terminate();
  }

  /** Answers a request for a socket: with one, or with an error over HTTP. */
  async answer(raw: IncomingMessage, connection: Duplex, head: Buffer): Promise<void> {
    const requestId = requestIdOf(raw);
    try {
      const visitor = await admitSocket(raw, this.#parts.gate);
      connection.once('close', this.#parts.gate.open.enter(visitor.principal));
      this.#server.handleUpgrade(raw, connection, head, (socket) => {
        const { tenant, key } = visitor.principal;
        this.#parts.logger.info({ ...this.#lineOf(raw, requestId), status: 101, tenant, by: key }, 'request');
        this.#open(socket, visitor, requestId);
      });
    } catch (thrown) {
      this.#refuse(raw, connection, requestId, thrown);
    }
  }

  #refuse(raw: IncomingMessage, connection: Duplex, requestId: string, thrown: unknown): void {
    const error = SallyportError.from(thrown);
    const line = { ...this.#lineOf(raw, requestId), status: error.status, code: error.code };
    if (error.status >= 500) this.#parts.logger.error({ ...line, err: error.cause ?? error }, 'request failed');
    this.#parts.logger.info(line, 'request');
    refuseSocket(connection, error, requestId, this.#parts.gate.rates.headersOf(raw));
  }

  #open(socket: WebSocket, { principal, connectionId }: Visitor, requestId: string): void {
    const { engine, gate, clock, logger, heartbeatMs } = this.#parts;
    const opened = clock.monotonic();
    const frames = this.#frames;
    const { keys } = gate.credentials;
    const watch = keys.watch(principal);
    const admit = async () => {
      const now = await keys.current(principal);
      if (!now) throw new SallyportError('invalid_key');
      await gate.rates.count(now);
      return now;
    };
    const session = new Session(socket, {
      engine,
      frames,
      principal,
      admit,
      keyGone: watch.gone,
      requestId,
      heartbeatMs,
      logger,
    });
    this.#sessions.add(session);
    socket.once('close', (code) => {
      watch.release();
      this.#sessions.delete(session);
      const duration_ms = Math.round(clock.monotonic() - opened);
      const by = { tenant: principal.tenant, by: principal.key };
      const line = { request_id: requestId, connection_id: connectionId, code, frames: session.frames, duration_ms };
      logger.info({ ...line, ...by }, 'socket closed');
    });
  }

  /** What the log says of a request for a socket. Its address may hold a ticket. */
  #lineOf(raw: IncomingMessage, requestId: string) {
    const client = this.#parts.gate.addressOf(raw);
    return { request_id: requestId, method: raw.method, route: socketRoute(raw), client };
  }
}

/**
 * Serves WebSockets at `/ws/{connection_id}` and `/api/claude/ws/{connection_id}` of the app's server. Who may not open
 * one is answered over HTTP. Every other request is left to the app, whatever `Upgrade` it asks for.
 */
export function addSocket(app: Pick<FastifyInstance, 'server'>, parts: SocketParts): Sockets {
  const sockets = new Sockets(parts);
  app.server.on('upgrade', (raw: IncomingMessage, connection: Duplex, head: Buffer) => {
    connection.on('error', () => connection.destroy()); // the client may leave while it is judged
    void sockets.answer(raw, connection, head);
  });
  // An option of the server's making elsewhere; without it every `Upgrade` would be taken from the app.
  Object.assign(app.server, { shouldUpgradeCallback: asksForSocket });
  return sockets;
}
