import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { MessagesRequest } from './types.ts';

/** A request as it came in and how it ended. */
export interface RecordedRequest {
  /** Milliseconds since the epoch. */
  at: number;
  method: string;
  /** With the query string. */
  path: string;
  /** All of them, credentials too, so that tests can assert on them. */
  headers: IncomingHttpHeaders;
  /** The parsed body; null while it is read, if it is no valid request, or with `recordBodies: false`. */
  body: MessagesRequest | null;
  /** The header `x-claude-code-session-id`. */
  sessionId: string | null;
  /**
   * `answered`: the answer went out whole, refusals of bad requests included. `faulted`: a fault was played to its end,
   * or the simulator closed or failed meanwhile. `client_left`: the client went first, also during a hang or a stall.
   */
  outcome: 'pending' | 'answered' | 'faulted' | 'client_left';
  /** Milliseconds since the epoch; null while pending. */
  finishedAt: number | null;
}

const maxRequests = 1000;
const maxBodyBytes = 256 * 1024 * 1024;

/** The newest requests: at most 1000, and at most 256 MiB of bodies. */
export class Records {
  readonly requests: RecordedRequest[] = [];
  readonly #bodyBytes = new WeakMap<RecordedRequest, number>();
  readonly #recordBodies: boolean;
  #totalBytes = 0;

  constructor(recordBodies: boolean) {
    this.#recordBodies = recordBodies;
  }

  add(request: IncomingMessage): RecordedRequest {
    const session = request.headers['x-claude-code-session-id'];
    const record: RecordedRequest = {
      at: Date.now(),
      method: request.method ?? '',
      path: request.url ?? '',
      headers: request.headers,
      body: null,
      sessionId: typeof session === 'string' ? session : null,
      outcome: 'pending',
      finishedAt: null,
    };
    this.requests.push(record);
    this.#dropOldest();
    return record;
  }

  /** Keeps the body of a request that is still recorded. */
  addBody(record: RecordedRequest, body: MessagesRequest, bytes: number): void {
    if (!this.#recordBodies || !this.requests.includes(record)) return;
    record.body = body;
    this.#bodyBytes.set(record, bytes);
    this.#totalBytes += bytes;
    this.#dropOldest();
  }

  clear(): void {
    this.requests.length = 0;
    this.#totalBytes = 0;
  }

  #dropOldest(): void {
    while (this.requests.length > maxRequests || (this.#totalBytes > maxBodyBytes && this.requests.length > 1)) {
      const oldest = this.requests.shift();
      if (oldest) this.#totalBytes -= this.#bodyBytes.get(oldest) ?? 0;
    }
  }
}
