import { createHash } from 'node:crypto';
import http from 'node:http';
import https from 'node:https';
import type { ClientRequest, IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import type { ErrorCode } from '@sallyport/protocol';
import type { Clock } from '../engine/clock.ts';
import type { UpstreamState } from '../engine/ports.ts';
import { Breaker, type BreakerPolicy } from './breaker.ts';
import { Credential } from './credential.ts';
import { Places } from './places.ts';

/** Where model calls go. */
export interface UpstreamSettings {
  /** Names it in logs and to admins. */
  readonly name: string;
  /** `http` or `https`; may have a path, to which `/v1/messages` is added. */
  readonly baseUrl: string;
  /** None: no key is sent. */
  readonly keys: readonly string[];
  /** Most calls under way there at once. */
  readonly maxConcurrent: number;
  /** Models that it is asked for; null: all. */
  readonly models: readonly string[] | null;
}

/** Connections to an upstream. */
export interface Connections {
  /** Begins a request. Throws when a header or the target cannot be sent. `fresh`: on a connection of its own. */
  begin(target: string, headers: OutgoingHttpHeaders, fresh: boolean): ClientRequest;
  close(): void;
}

/** Milliseconds after which an unused connection is closed, before the other side does it in the middle of a call. */
const idleMs = 30_000;

/** One upstream: its keys, its breaker, its places, its connections. */
export class Upstream {
  readonly name: string;
  readonly baseUrl: string;
  readonly breaker: Breaker;
  readonly places: Places;
  readonly connections: Connections;
  readonly #clock: Clock;
  #credentials: readonly Credential[] = [];
  #models: ReadonlySet<string> | null = null;
  #retired = false;

  /** Opens no connection yet. Throws an error of one line when the settings cannot be used. */
  constructor(settings: UpstreamSettings, clock: Clock, policy: BreakerPolicy) {
    this.name = settings.name;
    this.baseUrl = settings.baseUrl;
    this.connections = connectionsTo(settings.baseUrl);
    this.breaker = new Breaker(clock, policy);
    this.places = new Places(settings.maxConcurrent);
    this.#clock = clock;
    this.update(settings);
  }

  /** Takes over new settings of the same address. Keys that stay keep their state; calls under way keep their key. */
  update({ keys, maxConcurrent, models }: UpstreamSettings): void {
    const before = new Map(this.#credentials.map((credential) => [credential.secret, credential]));
    const secrets = keys.length === 0 ? [null] : keys;
    this.#credentials = secrets.map((secret, index) => {
      const name = `key-${index + 1}`;
      const credential = before.get(secret) ?? new Credential(name, secret, this.#clock);
      credential.name = name;
      return credential;
    });
    this.places.most = maxConcurrent;
    this.#models = models && new Set(models);
  }

  serves(model: string): boolean {
    return this.#models?.has(model) ?? true;
  }

  /**
   * The keys in the order in which they are tried for a conversation. A conversation begins with the same key every time,
   * as what an upstream has cached of it may belong to the key's account; conversations spread over the keys.
   */
  credentials(conversation: string): readonly Credential[] {
    const all = this.#credentials;
    if (all.length < 2) return all;
    const first = createHash('sha256').update(conversation).digest().readUInt32BE() % all.length;
    return [...all.slice(first), ...all.slice(0, first)];
  }

  /** The upstream asks for a wait, whatever the key. */
  limited(code: ErrorCode, afterMs: number): void {
    for (const credential of this.#credentials) credential.limited(code, afterMs);
  }

  /** Takes a place for a call. What is called when it has ended closes the connections of what nothing uses any more. */
  enter(tenant: string): () => void {
    const leave = this.places.take(tenant);
    return () => {
      leave();
      if (this.#retired) this.retire();
    };
  }

  /** No new call comes; connections are closed once the calls under way have ended. */
  retire(): void {
    this.#retired = true;
    if (this.places.taken === 0) this.connections.close();
  }

  state(): UpstreamState {
    const { state } = this.breaker;
    return {
      name: this.name,
      state,
      until: state === 'open' ? Math.round(this.#clock.now() + this.breaker.waitMs()) : null,
      calls: this.places.taken,
      maxCalls: this.places.most,
      credentials: this.#credentials.map((credential) => credential.state()),
    };
  }
}

function connectionsTo(baseUrl: string): Connections {
  const base = URL.parse(baseUrl);
  if (base === null || !['http:', 'https:'].includes(base.protocol) || base.username !== '' || base.search !== '') {
    throw new Error('the upstream must be a plain http or https address');
  }
  const transport = base.protocol === 'https:' ? https : http;
  const agent = new transport.Agent({ keepAlive: true, scheduling: 'lifo', timeout: idleMs });
  const prefix = base.pathname.replace(/\/+$/, '');
  return {
    begin(target, headers, fresh) {
      const path = prefix + target;
      const { protocol, hostname, port } = base;
      // URL keeps the brackets of an IPv6 address, a socket wants it without.
      const host = hostname.replace(/^\[(.*)\]$/, '$1');
      const options = { protocol, host, port, path, method: 'POST', headers, agent: fresh ? false : agent };
      return transport.request(options);
    },
    close: () => agent.destroy(),
  };
}

/** A connection failed. `unused`: it had been kept open and was closed before it carried anything of this request. */
export class ConnectionError extends Error {
  readonly unused: boolean;

  constructor(error: NodeJS.ErrnoException, unused: boolean) {
    super(error.code ?? error.name);
    this.name = 'ConnectionError';
    this.unused = unused;
  }
}

/** Sends the body and resolves with the head of the answer. Rejects with `ConnectionError`. */
export async function send(request: ClientRequest, body: Buffer): Promise<IncomingMessage> {
  return await new Promise<IncomingMessage>((resolve, reject) => {
    let answered = false;
    request.once('response', (answer) => {
      answered = true;
      resolve(answer);
    });
    request.on('error', (error: NodeJS.ErrnoException) => {
      const lost = error.code === 'ECONNRESET' || error.code === 'EPIPE';
      reject(new ConnectionError(error, lost && request.reusedSocket && !answered));
    });
    request.end(body);
  });
}
