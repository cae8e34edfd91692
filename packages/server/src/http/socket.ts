import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { socketFrames, socketProtocol, type Bounds } from '@sallyport/protocol';
import type { FastifyBaseLogger, FastifyInstance } from 'fastify';
import { WebSocketServer, type RawData, type ServerOptions, type WebSocket } from 'ws';
import type { Clock } from '../engine/clock.ts';
import type { Engine } from '../engine/engine.ts';
import { SallyportError } from '../engine/errors.ts';
import type { Principal } from '../engine/principal.ts';
import { eachInSlices } from '../engine/slices.ts';
import { requestIdOf } from './headers.ts';
import {
  admitSocket,
  asksForSocket,
  refuseSocket,
  socketRoute,
  type SocketGate,
  type Visitor,
} from './socket-admission.ts';
import { Session, type SessionParts } from './socket-session.ts';

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
  readonly #server: WebSocketServer;
  readonly #shared: SessionParts;
  readonly #listeners: ReturnType<typeof listenersOf>;
  readonly #sessions = new Map<WebSocket, Session>();
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: SocketParts) {
    this.#parts = parts;
    const { engine, gate, logger, heartbeatMs } = parts;
    const { keys } = gate.credentials;
    const admit = async (who: Principal) => {
      const now = await keys.current(who);
      if (!now) throw new SallyportError('invalid_key');
      await gate.rates.count(now);
      return now;
    };
    this.#shared = { engine, frames: socketFrames(parts.bounds), admit, heartbeatMs, logger };
    const close = (socket: WebSocket, code: number) => this.#closed(socket, code);
    this.#listeners = listenersOf(this.#sessions, close, logger);
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
    for (const session of this.#sessions.values()) session.goAway();
  }

  /** Cuts every socket. */
  terminate(): void {
    for (const session of this.#sessions.values()) session.terminate();
  }

  /** Answers a request for a socket: with one, or with an error over HTTP. */
  async answer(raw: IncomingMessage, connection: Duplex, head: Buffer): Promise<void> {
    const requestId = requestIdOf(raw);
    try {
      const visitor = await admitSocket(raw, this.#parts.gate);
      const { open } = this.#parts.gate;
      open.enter(visitor.principal);
      let opened = false;
      this.#server.handleUpgrade(raw, connection, head, (socket) => {
        opened = true;
        connection.off('error', destroy); // the socket has its own
        const { tenant, key } = visitor.principal;
        this.#parts.logger.info({ ...this.#lineOf(raw, requestId), status: 101, tenant, by: key }, 'request');
        this.#open(socket, visitor, requestId);
      });
      if (!opened) open.leave(visitor.principal); // it was no handshake, or the client has left
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
    const { clock, gate, heartbeatMs } = this.#parts;
    const since = Math.round(clock.monotonic());
    const session = new Session({ socket, principal, connectionId, requestId, since }, this.#shared);
    this.#sessions.set(socket, session);
    const { message, pong, error, closed } = this.#listeners;
    socket.on('message', message).on('pong', pong).on('error', error).on('close', closed);
    gate.credentials.keys.addWatcher(principal, session);
    this.#timer ??= setInterval(() => this.#beat(), heartbeatMs);
  }

  #beat(): void {
    eachInSlices(
      this.#sessions.values(),
      (session) => session.beat(),
      () => undefined,
    );
  }

  #closed(socket: WebSocket, code: number): void {
    const session = this.#sessions.get(socket);
    if (!session) return;
    const { gate, clock, logger } = this.#parts;
    const { principal, connectionId, requestId, since } = session.opened;
    this.#sessions.delete(socket);
    if (this.#sessions.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
    session.closed();
    gate.credentials.keys.removeWatcher(principal, session);
    gate.open.leave(principal);
    const duration_ms = Math.max(0, Math.round(clock.monotonic()) - since);
    const by = { tenant: principal.tenant, by: principal.key };
    const line = { request_id: requestId, connection_id: connectionId, code, frames: session.frames, duration_ms };
    logger.info({ ...line, ...by }, 'socket closed');
  }

  /** What the log says of a request for a socket. Its address may hold a ticket. */
  #lineOf(raw: IncomingMessage, requestId: string) {
    const client = this.#parts.gate.addressOf(raw);
    return { request_id: requestId, method: raw.method, route: socketRoute(raw), client };
  }
}

/** What is done with all that a socket tells: the same functions for all sockets, as there may be many. */
function listenersOf(
  sessions: ReadonlyMap<WebSocket, Session>,
  close: (socket: WebSocket, code: number) => void,
  logger: FastifyBaseLogger,
) {
  function message(this: WebSocket, data: RawData, isBinary: boolean): void {
    sessions.get(this)?.receive(data as Buffer, isBinary);
  }
  function pong(this: WebSocket): void {
    sessions.get(this)?.pong();
  }
  function closed(this: WebSocket, code: number): void {
    close(this, code);
  }
  const error = (cause: Error) => logger.debug({ err: cause }, 'a socket failed'); // it closes by itself
  return { message, pong, closed, error };
}

function destroy(this: Duplex): void {
  this.destroy();
}

/**
 * Serves WebSockets at `/ws/{connection_id}` and `/api/claude/ws/{connection_id}` of the app's server. Who may not open
 * one is answered over HTTP. Every other request is left to the app, whatever `Upgrade` it asks for.
 */
export function addSocket(app: Pick<FastifyInstance, 'server'>, parts: SocketParts): Sockets {
  const sockets = new Sockets(parts);
  app.server.on('upgrade', (raw: IncomingMessage, connection: Duplex, head: Buffer) => {
    connection.on('error', destroy); // the client may leave while it is judged
    void sockets.answer(raw, connection, head);
  });
  // An option of the server's making elsewhere; without it every `Upgrade` would be taken from the app.
  Object.assign(app.server, { shouldUpgradeCallback: asksForSocket });
  return sockets;
}
