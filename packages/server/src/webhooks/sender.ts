import { Resolver } from 'node:dns/promises';
import { Agent as HttpAgent, request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest, type RequestOptions } from 'node:https';
import type { LookupFunction } from 'node:net';
import type { WebhookAnswer, WebhookRequest, WebhookSender } from '../engine/ports.ts';
import { createAddresses, literalOf, type Addresses } from './addresses.ts';

/** What bounds one sending. Times in milliseconds. */
export interface SendBounds {
  /** For the name to be looked up and the connection, with its encryption, to be made. */
  readonly connectMs: number;
  /** For all of it. */
  readonly wholeMs: number;
}

export interface SenderOptions {
  /** Private networks that are sent to all the same, over http too. */
  readonly privateNetworks: readonly string[];
  /** Looks a name up; default: the name servers of the system. Rejects when there is none. */
  readonly resolve?: (name: string) => Promise<readonly string[]>;
  readonly bounds?: SendBounds;
  /** Certificates that are believed in place of the usual ones. */
  readonly ca?: string;
}

const usual: SendBounds = { connectMs: 5000, wholeMs: 15_000 };
const longestUrl = 2000;
/** Bytes of an answer that are read, and dropped, before it is cut. */
const mostRead = 16 * 1024;

/** What was not sent, and why. */
class Unsent extends Error {
  readonly problem: Extract<WebhookAnswer, { status: null }>['problem'];

  constructor(problem: Unsent['problem']) {
    super(problem);
    this.problem = problem;
  }
}

/**
 * Addresses of a name by the name servers of the system. Not by its own lookup: that waits in threads that the files of
 * the service need too, and a name server of a stranger may be slow.
 */
async function resolveName(name: string): Promise<string[]> {
  const resolver = new Resolver({ timeout: 2000, tries: 2 });
  const found = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)]);
  return found.flatMap((one) => (one.status === 'fulfilled' ? one.value : []));
}

/** Makes the sender of webhooks. It keeps nothing between two sendings. */
export function createWebhookSender(options: SenderOptions): WebhookSender {
  const { privateNetworks, resolve = resolveName, bounds = usual, ca } = options;
  const addresses = createAddresses(privateNetworks);
  return {
    refusal: (text) => refusalOf(text, addresses),
    async send(request, signal) {
      if (refusalOf(request.url, addresses) !== null) return { status: null, problem: 'address_refused' };
      try {
        return await new Sending(request, { bounds, ca }, signal).run((url) => checked(url, addresses, resolve));
      } catch (error) {
        return { status: null, problem: problemOf(error) };
      }
    },
  };
}

/** What can be said of an address without looking up its name. */
function refusalOf(text: string, addresses: Addresses): string | null {
  const url = URL.parse(text);
  const schemes = addresses.hasPrivate ? ['https:', 'http:'] : ['https:'];
  if (url === null || text.length > longestUrl) return 'is not a URL, or is too long';
  if (!schemes.includes(url.protocol)) return 'must be an https URL';
  if (url.username !== '' || url.password !== '') return 'must not hold a user or password';
  if (url.port !== '' && Number(url.port) < 1024) return 'must have the usual port, or one from 1024 on';
  const literal = literalOf(url);
  const reachable = literal === null || addresses.allows(literal, url.protocol === 'https:');
  return reachable ? null : 'is not one that the internet can reach';
}

/** The addresses to connect to, each of which may be. Throws `Unsent`. */
async function checked(
  url: URL,
  addresses: Addresses,
  resolve: (name: string) => Promise<readonly string[]>,
): Promise<readonly string[]> {
  const literal = literalOf(url);
  const found = literal === null ? await resolve(url.hostname).catch(() => []) : [literal];
  if (found.length === 0) throw new Unsent('unresolved');
  // One that is refused refuses them all: it is no accident that such a name leads there.
  if (!found.every((one) => addresses.allows(one, url.protocol === 'https:'))) throw new Unsent('address_refused');
  return found;
}

function problemOf(error: unknown): Unsent['problem'] {
  if (error instanceof Unsent) return error.problem;
  const { code } = error as { code?: unknown };
  return typeof code === 'string' && /CERT|SIGNATURE/u.test(code) ? 'certificate' : 'connection';
}

/** Answers with checked addresses whatever is asked, so that no second lookup can lead elsewhere. */
const pinned = (checkedOnes: readonly string[]): LookupFunction => {
  const all = checkedOnes.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
  const [first = { address: '', family: 4 }] = all;
  return (_name, { all: wantsAll }, done) => (wantsAll ? done(null, all) : done(null, first.address, first.family));
};

/** One message on its way. */
class Sending {
  readonly #request: WebhookRequest;
  readonly #options: { readonly bounds: SendBounds; readonly ca: string | undefined };
  readonly #signal: AbortSignal;
  readonly #cut = new AbortController();

  constructor(request: WebhookRequest, options: { bounds: SendBounds; ca: string | undefined }, signal: AbortSignal) {
    this.#request = request;
    this.#options = options;
    this.#signal = signal;
  }

  async run(check: (url: URL) => Promise<readonly string[]>): Promise<WebhookAnswer> {
    const { connectMs, wholeMs } = this.#options.bounds;
    const end = (problem: Unsent['problem']) => () => this.#cut.abort(new Unsent(problem));
    const interrupt = end('interrupted');
    const timers = [setTimeout(end('timeout'), wholeMs), setTimeout(end('timeout'), connectMs)];
    this.#signal.addEventListener('abort', interrupt, { once: true });
    if (this.#signal.aborted) interrupt();
    try {
      const url = new URL(this.#request.url);
      const lookup = pinned(await this.#unlessCut(check(url)));
      return await this.#send(url, lookup, () => clearTimeout(timers[1]));
    } finally {
      for (const timer of timers) clearTimeout(timer);
      this.#signal.removeEventListener('abort', interrupt);
    }
  }

  /** What the work gives, or the reason for which it is cut short. */
  #unlessCut<T>(work: Promise<T>): Promise<T> {
    const { signal } = this.#cut;
    return new Promise<T>((resolve, reject) => {
      const stop = () => reject(signal.reason as Unsent);
      if (signal.aborted) stop();
      signal.addEventListener('abort', stop, { once: true });
      work.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
    });
  }

  /** Redirects are answers like others: Node follows none. */
  #send(url: URL, lookup: LookupFunction, connected: () => void): Promise<WebhookAnswer> {
    const { body, headers: own } = this.#request;
    const length = { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) };
    const headers = { ...length, 'user-agent': 'Sallyport', ...own };
    const { ca } = this.#options;
    const encrypted = url.protocol === 'https:';
    const agent = encrypted
      ? new HttpsAgent({ keepAlive: false, maxCachedSessions: 0 })
      : new HttpAgent({ keepAlive: false });
    const trust = encrypted ? { rejectUnauthorized: true, ...(ca !== undefined && { ca }) } : {};
    const options: RequestOptions = { method: 'POST', agent, lookup, headers, maxHeaderSize: 16_384, ...trust };
    const request = encrypted ? httpsRequest(url, options) : httpRequest(url, options);
    request.once('socket', (socket) => socket.once(encrypted ? 'secureConnect' : 'connect', connected));
    const { signal } = this.#cut;
    signal.addEventListener('abort', () => request.destroy(signal.reason as Unsent), { once: true });
    return new Promise((resolve, reject) => {
      request.once('error', reject);
      // It says so also where there is neither an answer nor an error, as when the receiver changes to another protocol.
      const closed = () => reject(new Unsent('connection'));
      request.once('close', closed);
      request.once('response', (response) => {
        request.off('close', closed).off('error', reject);
        request.on('error', () => undefined); // what comes after the status changes nothing
        void statusOf(request, response).then(resolve, reject);
      });
      request.end(body);
    });
  }
}

/** The status of an answer, once its end was read, or as much of it as ever is: it counts also when the rest never comes. */
async function statusOf(request: ClientRequest, response: IncomingMessage): Promise<WebhookAnswer> {
  const answer = { status: response.statusCode ?? 0, retryAfter: response.headers['retry-after'] };
  let read = 0;
  response.on('data', ({ length }: Buffer) => {
    read += length;
    if (read > mostRead) request.destroy();
  });
  response.on('error', () => undefined); // what is wrong with a body that nobody wants
  await new Promise((resolve) => response.once('close', resolve));
  return answer;
}
