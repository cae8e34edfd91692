import { createClient } from '@redis/client';
import { createNodeRedisClient, Queue, Worker, type IRedisClient } from 'bullmq';
import type { Clock } from '../engine/clock.ts';
import type { DueJob, JobQueue, Log } from '../engine/ports.ts';
import { redisBounds, type RedisBounds } from './redis.ts';

export interface BullQueueOptions {
  /** As `redis://user:password@host:6379/0`, or `rediss:` for TLS. */
  readonly url: string;
  /** What its keys begin with. */
  readonly prefix: string;
  readonly clock: Clock;
  readonly logger: Log;
  /** After how long a Redis that says nothing is told nothing more. Default: `redisBounds`. */
  readonly bounds?: Partial<Pick<RedisBounds, 'pingMs' | 'silenceMs'>>;
}

const name = 'jobs';
/** Longest wait for Redis when the service closes, in milliseconds. */
const closeMs = 1_000;
/** Longest wait between two tries to connect, in milliseconds. */
const longestPauseMs = 1_000;
/** Most commands without an answer. Only once nothing more is sent it shows that nothing comes either. */
const mostOpen = 500;

/** What is told of a job: no more than which one it is. */
type Told = Pick<DueJob, 'tenant' | 'id'>;

const makeClient = ({ url, logger, bounds }: BullQueueOptions) => {
  const { pingMs, silenceMs } = { ...redisBounds, ...bounds };
  const socket = {
    connectTimeout: silenceMs,
    reconnectStrategy: (retries: number) => Math.min(50 * 2 ** retries, longestPauseMs),
  };
  const client = createClient({
    url,
    // What cannot be said at once need not be said: the rows are looked at anyway.
    disableOfflineQueue: true,
    maintNotifications: 'disabled',
    commandsQueueMaxLength: mostOpen,
    pingInterval: pingMs,
    socket: { ...socket, socketTimeout: silenceMs },
  });
  // That of a worker waits for seconds until Redis says something, and BullMQ itself looks after it.
  const duplicate = client.duplicate.bind(client);
  client.duplicate = (changes) => duplicate({ pingInterval: 0, socket, ...changes });
  let failing = false;
  client.on('ready', () => (failing = false));
  client.on('error', (error: unknown) => {
    if (!failing) logger.warn({ err: error }, 'Redis does not tell of jobs; they are found in the rows meanwhile');
    failing = true;
  });
  return client;
};

type Client = ReturnType<typeof makeClient>;

/**
 * A connection as BullMQ uses it, put into the list with those that BullMQ makes of it. It stays with its listener: an
 * error that nobody listens to would end the process, and BullMQ listens to what it has closed no more.
 */
function connectionOf(client: IRedisClient, list: IRedisClient[]): IRedisClient {
  list.push(client);
  client.on('error', () => undefined); // the first client has told
  const duplicate = client.duplicate.bind(client);
  client.duplicate = (...options) => connectionOf(duplicate(...options), list);
  return client;
}

/** Tells one node of each job when it is due, through BullMQ on Redis. While Redis is down nobody is told. */
export class BullQueue implements JobQueue {
  readonly #options: BullQueueOptions;
  readonly #client: Client;
  readonly #connections: IRedisClient[] = [];
  readonly #connection: IRedisClient;
  readonly #queue: Queue<Told>;
  #worker: Worker<Told> | null = null;
  #closed = false;

  constructor(options: BullQueueOptions) {
    const { prefix } = options;
    this.#options = options;
    this.#client = makeClient(options);
    this.#connection = connectionOf(createNodeRedisClient(this.#client), this.#connections);
    this.#queue = new Queue<Told>(name, { connection: this.#connection, prefix, skipMetasUpdate: true });
    this.#queue.on('error', () => undefined); // the client has told
  }

  /** False while nobody is told. */
  get isUp(): boolean {
    return this.#client.isReady;
  }

  announce({ tenant, id, attempt, runAt }: DueJob): void {
    if (this.#closed || !this.isUp) return;
    const delay = Math.max(0, runAt - this.#options.clock.now());
    const options = { jobId: `${id}-${attempt}-${runAt}`, delay, removeOnComplete: true, removeOnFail: true };
    this.#queue.add(name, { tenant, id }, options).catch((error: unknown) => {
      this.#options.logger.warn({ job: id, err: error }, 'no node could be told of a job; it is found in its row');
    });
  }

  start(slots: number, work: () => Promise<void>): void {
    const { prefix } = this.#options;
    this.#worker = new Worker<Told>(name, () => work(), {
      connection: this.#connection,
      prefix,
      concurrency: slots,
      removeOnComplete: { count: 0 },
      removeOnFail: { count: 0 },
    });
    this.#worker.on('error', () => undefined); // the client has told
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const closing = Promise.allSettled([this.#worker?.close(true), this.#queue.close()]);
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, closeMs);
    await Promise.race([closing, late]);
    clearTimeout(timer);
    for (const connection of this.#connections) connection.disconnect();
  }
}
