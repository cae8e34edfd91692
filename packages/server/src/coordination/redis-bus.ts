import type { Bus, Log } from '../engine/ports.ts';
import type { Redis } from './redis.ts';

export interface RedisBusOptions {
  /** For what is sent. */
  readonly redis: Redis;
  /** For what comes: a connection of its own. */
  readonly subscriber: Redis;
  /** What the names of its channels begin with in Redis. */
  readonly prefix: string;
  /** What no other bus is named, without a space. */
  readonly node: string;
  readonly logger: Log;
  /** Most characters of messages that Redis has not taken yet; those beyond are lost. Default: 4,000,000. */
  readonly maxPending?: number;
}

/** What a message costs besides its text, in characters. */
const overhead = 200;

/**
 * Messages through Redis' publish and subscribe. One subscription per channel serves however many listen to it. What is
 * published before Redis has the first subscription of a channel does not come: some milliseconds, or for as long as
 * Redis does not answer, and then `onGap` is called. It is called as well when another node could not send.
 */
export class RedisBus implements Bus {
  readonly #options: Required<RedisBusOptions>;
  readonly #listeners = new Map<string, Set<(message: string) => void>>();
  readonly #gapListeners = new Set<() => void>();
  /** Channels that the connection is subscribed to, or may be. */
  readonly #subscribed = new Set<string>();
  /** Channels of which a change is under way. */
  readonly #changing = new Set<string>();
  #pending = 0;
  /** Messages were lost here that others have to hear of. */
  #hasLost = false;
  /** Redis has refused a subscription, which was told. */
  #isRefused = false;

  constructor(options: RedisBusOptions) {
    this.#options = { maxPending: 4_000_000, ...options };
    const { redis, subscriber } = this.#options;
    this.#listeners.set(this.#lost, new Set([() => this.#gap()]));
    redis.onUp(() => this.#tellLoss());
    subscriber.onReady(() => void this.#resume());
    void this.#settle(this.#lost);
  }

  publish(channel: string, message: string): void {
    void this.#send(this.#nameOf(channel), message);
  }

  subscribe(channel: string, listener: (message: string) => void): () => void {
    const name = this.#nameOf(channel);
    const listeners = this.#listeners.get(name) ?? new Set();
    // The same function may listen twice.
    const own = (message: string) => listener(message);
    this.#listeners.set(name, listeners.add(own));
    void this.#settle(name);
    return () => {
      listeners.delete(own);
      if (listeners.size > 0 || this.#listeners.get(name) !== listeners) return;
      this.#listeners.delete(name);
      void this.#settle(name);
    };
  }

  onGap(listener: () => void): () => void {
    const own = () => listener();
    this.#gapListeners.add(own);
    return () => void this.#gapListeners.delete(own);
  }

  /** The channel on which nodes say that they have lost messages. */
  get #lost(): string {
    return `${this.#options.prefix}lost`;
  }

  #nameOf(channel: string): string {
    return `${this.#options.prefix}of:${channel}`;
  }

  /** Never rejects: what cannot be sent is lost. */
  async #send(name: string, message: string): Promise<void> {
    const { redis, node, maxPending } = this.#options;
    const size = message.length + overhead;
    if (!redis.isUp || this.#pending + size > maxPending) {
      this.#hasLost = true;
      return;
    }
    this.#pending += size;
    try {
      await redis.ask((client) => client.publish(name, `${node} ${message}`));
    } catch {
      this.#hasLost = true;
      return;
    } finally {
      this.#pending -= size;
    }
    if (this.#pending === 0) this.#tellLoss();
  }

  /** Tells the others that messages were lost, as soon as they can be told. */
  #tellLoss(): void {
    if (!this.#hasLost || !this.#options.redis.isUp) return;
    this.#hasLost = false;
    void this.#send(this.#lost, '');
  }

  /** Subscribes a new connection to all that is listened to. What was published before it did is lost. */
  async #resume(): Promise<void> {
    await Promise.all([...new Set([...this.#listeners.keys(), ...this.#subscribed])].map((name) => this.#settle(name)));
    this.#gap();
  }

  /** Brings one subscription to what is wanted. Never rejects: a new connection tries it again. */
  async #settle(name: string): Promise<void> {
    const { client } = this.#options.subscriber;
    const isWanted = () => this.#listeners.has(name);
    if (this.#changing.has(name) || isWanted() === this.#subscribed.has(name) || !client.isReady) return;
    this.#changing.add(name);
    try {
      if (isWanted()) {
        await client.subscribe(name, this.#receive);
        this.#subscribed.add(name);
      } else {
        await client.unsubscribe(name, this.#receive);
        this.#subscribed.delete(name);
      }
    } catch (error) {
      if (client.isReady && !this.#isRefused) this.#options.logger.warn({ err: error }, 'Redis refuses a subscription');
      this.#isRefused ||= client.isReady;
      return;
    } finally {
      this.#changing.delete(name);
    }
    await this.#settle(name);
  }

  readonly #receive = (text: string, name: string): void => {
    const end = text.indexOf(' ');
    if (text.slice(0, end) === this.#options.node) return;
    const message = text.slice(end + 1);
    for (const listener of this.#listeners.get(name) ?? []) this.#call(() => listener(message));
  };

  #gap(): void {
    for (const listener of this.#gapListeners) this.#call(listener);
  }

  #call(listener: () => void): void {
    try {
      listener();
    } catch (error) {
      this.#options.logger.error({ err: error }, 'a listener of the bus has failed');
    }
  }
}
