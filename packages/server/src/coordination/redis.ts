import { createClient, ErrorReply } from '@redis/client';
import type { Log } from '../engine/ports.ts';

/** What bounds the work with Redis, in milliseconds. */
export interface RedisBounds {
  /** For an answer. What Redis does not say within it is not waited for. */
  readonly answerMs: number;
  /** For the first connection, after which a service starts without it. */
  readonly startMs: number;
  /** How often an idle connection is asked whether it is there. */
  readonly pingMs: number;
  /** For which nothing may come before a connection is given up. */
  readonly silenceMs: number;
}

export const redisBounds: RedisBounds = { answerMs: 250, startMs: 1000, pingMs: 1000, silenceMs: 2000 };

export interface RedisOptions {
  /** As `redis://user:password@host:6379/0`, or `rediss:` for TLS. */
  readonly url: string;
  /** What it is for, as the log says it. */
  readonly name: string;
  readonly logger: Log;
  /** Default: `redisBounds`. */
  readonly bounds?: Partial<RedisBounds>;
}

/** Thrown instead of asking a Redis that does not answer. */
export class RedisDownError extends Error {
  constructor() {
    super('Redis does not answer');
    this.name = 'RedisDownError';
  }
}

const makeClient = (url: string, { pingMs, silenceMs }: RedisBounds, retry: boolean) =>
  createClient({
    url,
    disableOfflineQueue: true,
    maintNotifications: 'disabled',
    pingInterval: pingMs,
    socket: {
      connectTimeout: silenceMs,
      socketTimeout: silenceMs,
      reconnectStrategy: (retries) => retry && Math.min(50 * 2 ** retries, 1000),
    },
  });

export type RedisClient = ReturnType<typeof makeClient>;

/** Where a Redis is, without user and password: `host:port/database`. */
export function placeOfRedis(url: string): string {
  const { hostname, port, pathname } = new URL(url);
  return `${hostname}:${port || '6379'}/${databaseOf(pathname)}`;
}

const databaseOf = (pathname: string): number => Number(pathname.slice(1));

/** What keys and channels of a Redis begin with. Channels are the same in all its databases, so that they name one. */
export const redisPrefix = (url: string): string => `sallyport:${databaseOf(new URL(url).pathname)}:`;

/** What Redis says it is. Rejects with one readable line when it cannot be asked, or does not answer for so long. */
export async function redisVersion(url: string, silenceMs = 5000): Promise<string> {
  const client = makeClient(url, { ...redisBounds, silenceMs }, false);
  client.on('error', () => undefined);
  try {
    await client.connect();
    const version = /^redis_version:(\S+)/mu.exec(await client.info('server'))?.[1];
    return `Redis ${version ?? 'of an unknown version'}`;
  } catch (error) {
    throw new Error(`cannot use Redis at ${placeOfRedis(url)}: ${reasonOf(error)}`, { cause: error });
  } finally {
    client.destroy();
  }
}

/** Several addresses of one name fail with an error that has no text of its own. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join('; ');
  return error instanceof Error ? error.message : String(error);
}

/**
 * A connection to Redis that makes itself anew whenever it is lost. It is asked only while it answers: after a command
 * that took too long it counts as down until everything that was sent is answered, or the connection is another one. So
 * one that hangs costs one wait, and not one for every request.
 */
export class Redis {
  readonly #options: RedisOptions;
  readonly #bounds: RedisBounds;
  readonly #client: RedisClient;
  readonly #answering: (() => void)[] = [];
  /** Kinds of errors that were told since the connection was made. */
  readonly #refusals = new Set<string>();
  /** Commands that were sent and not answered. */
  #open = 0;
  #late = false;
  #wasUp: boolean | null = null;
  #closed = false;

  constructor(options: RedisOptions) {
    this.#options = options;
    this.#bounds = { ...redisBounds, ...options.bounds };
    this.#client = makeClient(options.url, this.#bounds, true);
    this.#client.on('ready', () => {
      this.#refusals.clear();
      this.#note(null);
    });
    this.#client.on('error', (error: unknown) => this.#note(error));
  }

  /** Connects. Resolves when it has, or when that takes too long: then it goes on trying. Never rejects. */
  async start(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, this.#bounds.startMs);
    // Rejects only when it is closed before it could connect.
    this.#client.connect().then(
      () => resolve(),
      () => resolve(),
    );
    await promise;
    clearTimeout(timer);
    this.#note(new RedisDownError());
  }

  /** True while it answers. */
  get isUp(): boolean {
    return this.#client.isReady && !this.#late;
  }

  /** Calls back with every connection that is made. */
  onReady(listener: () => void): void {
    this.#client.on('ready', listener);
  }

  /** Calls back whenever it answers, at first and after it did not. */
  onUp(listener: () => void): void {
    this.#answering.push(listener);
  }

  /**
   * Sends a command and gives its answer. Rejects at once with `RedisDownError` while Redis does not answer, with the
   * same when it does not within the bound, and with what Redis says when it refuses. Whether a command was carried out
   * is unknown when it rejects.
   */
  async ask<T>(send: (client: RedisClient) => Promise<T>): Promise<T> {
    if (!this.isUp) throw new RedisDownError();
    this.#open += 1;
    let isOpen = true;
    const answer = send(this.#client).finally(() => {
      isOpen = false;
      this.#answered();
    });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      // What came while this process was busy is read before it counts as late.
      const look = () => isOpen && reject(this.#giveUp());
      timer = setTimeout(() => setImmediate(look), this.#bounds.answerMs);
    });
    try {
      return await Promise.race([answer, late]);
    } catch (error) {
      if (error instanceof ErrorReply) this.#refuse(error);
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** The connection itself, for subscriptions. */
  get client(): RedisClient {
    return this.#client;
  }

  /** Ends the connection at once; what was asked rejects. */
  close(): void {
    this.#closed = true;
    this.#client.destroy();
  }

  #giveUp(): Error {
    const error = new RedisDownError();
    this.#late = true;
    this.#note(error);
    return error;
  }

  #answered(): void {
    this.#open -= 1;
    if (this.#open > 0) return;
    this.#late = false;
    this.#note(null);
  }

  /** Tells the log when it begins or ceases to answer, once. */
  #note(error: unknown): void {
    const { isUp } = this;
    if (this.#closed || isUp === this.#wasUp) return;
    const { url, name, logger } = this.#options;
    const about = { redis: placeOfRedis(url), connection: name };
    if (isUp) {
      if (this.#wasUp === false) logger.info(about, 'Redis answers again');
      this.#wasUp = true;
      for (const listener of this.#answering) listener();
    } else if (error !== null) {
      this.#wasUp = false;
      logger.warn({ ...about, err: error }, 'Redis does not answer, and this node goes on alone');
    }
  }

  /** Tells the log what Redis refuses, once for each kind and connection. */
  #refuse({ message }: Error): void {
    const kind = message.split(' ', 1)[0] ?? '';
    if (this.#closed || this.#refusals.has(kind) || this.#refusals.size > 20) return;
    this.#refusals.add(kind);
    const { url, name, logger } = this.#options;
    logger.warn({ redis: placeOfRedis(url), connection: name, reason: message }, 'Redis refuses a command');
  }
}
