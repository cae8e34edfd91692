import http from 'node:http';
import https from 'node:https';
import type { ClientRequest, IncomingMessage, OutgoingHttpHeaders } from 'node:http';

/** Where model calls go. */
export interface UpstreamSettings {
  readonly kind: 'anthropic' | 'simulator';
  /** `http` or `https`; may have a path, to which `/v1/messages` is added. */
  readonly baseUrl: string;
  readonly apiKey: string | null;
}

/** Connections to the upstream. */
export interface Upstream {
  readonly apiKey: string | null;
  /** Begins a request. Throws when a header or the target cannot be sent. `fresh`: on a connection of its own. */
  begin(target: string, headers: OutgoingHttpHeaders, fresh: boolean): ClientRequest;
  close(): void;
}

/** Milliseconds after which an unused connection is closed, before the other side does it in the middle of a call. */
const idleMs = 30_000;

/** Opens no connection yet. Throws an error of one line when the settings cannot be used. */
export function createUpstream(settings: UpstreamSettings): Upstream {
  const { baseUrl, apiKey, kind } = settings;
  const base = URL.parse(baseUrl);
  if (base === null || !['http:', 'https:'].includes(base.protocol) || base.username !== '' || base.search !== '') {
    throw new Error('the upstream must be a plain http or https address');
  }
  if (kind === 'anthropic' && !apiKey) throw new Error('the upstream needs an API key');
  const transport = base.protocol === 'https:' ? https : http;
  const agent = new transport.Agent({ keepAlive: true, scheduling: 'lifo', timeout: idleMs });
  const prefix = base.pathname.replace(/\/+$/, '');
  return {
    apiKey,
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
