import type { ResponseCache } from '../engine/ports.ts';
import type { Redis } from './redis.ts';

export interface RedisCacheOptions {
  readonly redis: Redis;
  /** What the names of its keys begin with in Redis. */
  readonly prefix: string;
  /** A sixteenth of it is the most that one entry may take, in bytes. How much all may take is up to Redis. */
  readonly maxBytes: number;
}

/**
 * Keeps texts in Redis, where every node finds them, until Redis lets their time pass or needs the memory. While Redis
 * does not answer nothing is found and nothing is kept; a text that could not be replaced is then there again later.
 */
export class RedisCache implements ResponseCache {
  readonly #redis: Redis;
  readonly #prefix: string;
  readonly #maxBytes: number;

  constructor({ redis, prefix, maxBytes }: RedisCacheOptions) {
    this.#redis = redis;
    this.#prefix = prefix;
    this.#maxBytes = maxBytes;
  }

  /** Null also when Redis cannot be asked. Never rejects. */
  async get(key: string): Promise<string | null> {
    try {
      return await this.#redis.ask((client) => client.get(this.#prefix + key));
    } catch {
      return null;
    }
  }

  /** Keeps nothing when Redis cannot be asked. Never rejects. */
  async set(key: string, value: string, ttlSeconds: number): Promise<void> {
    const name = this.#prefix + key;
    const fits = Buffer.byteLength(value) <= this.#maxBytes / 16;
    try {
      await this.#redis.ask<unknown>((client) =>
        fits ? client.set(name, value, { expiration: { type: 'EX', value: ttlSeconds } }) : client.del(name),
      );
    } catch {
      // It is a miss next time.
    }
  }
}
