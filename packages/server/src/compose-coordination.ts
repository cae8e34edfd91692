import type { Settings } from './config/settings.ts';
import { DegradingLimiter, shareLimiter } from './coordination/degrading-limiter.ts';
import { LocalBus } from './coordination/local-bus.ts';
import { LocalCache } from './coordination/local-cache.ts';
import { LocalLimiter } from './coordination/local.ts';
import { RedisBus } from './coordination/redis-bus.ts';
import { RedisCache } from './coordination/redis-cache.ts';
import { RedisLimiter } from './coordination/redis-limiter.ts';
import { placeOfRedis, Redis, redisPrefix, redisVersion, type RedisBounds } from './coordination/redis.ts';
import { systemClock } from './engine/clock.ts';
import { newUuid } from './engine/ids.ts';
import type { Bus, Limiter, Log, ResponseCache } from './engine/ports.ts';

/** What the nodes of the service share, or what one has in place of it. */
export interface Coordination {
  readonly limiters: { readonly keys: Limiter; readonly addresses: Limiter };
  readonly responseCache: ResponseCache;
  readonly bus: Bus;
  /** False while a Redis that is configured does not answer; the service goes on without it. */
  isUp(): boolean;
  close(): void;
}

export interface CoordinationOptions {
  readonly logger: Log;
  /** How many nodes serve, this one included. */
  readonly nodes: () => number;
  /** In place of the usual ones. */
  readonly bounds?: Partial<RedisBounds>;
}

/**
 * Connects to the Redis of the settings; without one everything stays in this process. Resolves also when Redis does not
 * answer: it is tried until it does. Never rejects.
 */
export async function startCoordination(
  { redisUrl, cacheBytes: maxBytes }: Pick<Settings, 'redisUrl' | 'cacheBytes'>,
  { logger, nodes, bounds = {} }: CoordinationOptions,
): Promise<Coordination> {
  const clock = systemClock;
  const local = () => new LocalLimiter({ clock });
  if (redisUrl === null) {
    const responseCache = new LocalCache({ clock, maxBytes });
    const limiters = { keys: shareLimiter(local(), nodes), addresses: shareLimiter(local(), nodes) };
    return { limiters, responseCache, bus: new LocalBus(), isUp: () => true, close: () => undefined };
  }
  const connect = (name: string) => new Redis({ url: redisUrl, name, logger, bounds });
  const [redis, subscriber] = [connect('commands'), connect('messages')];
  const prefix = redisPrefix(redisUrl);
  const limiter = (name: string) => {
    const shared = new RedisLimiter({ redis, prefix: `${prefix}rate:${name}:` });
    return new DegradingLimiter({ shared, local: local(), nodes });
  };
  const bus = new RedisBus({ redis, subscriber, prefix: `${prefix}bus:`, node: newUuid(), logger });
  await Promise.all([redis.start(), subscriber.start()]);
  return {
    limiters: { keys: limiter('keys'), addresses: limiter('addresses') },
    responseCache: new RedisCache({ redis, prefix: `${prefix}answer:`, maxBytes }),
    bus,
    isUp: () => redis.isUp && subscriber.isUp,
    close() {
      redis.close();
      subscriber.close();
    },
  };
}

/** Redis as a check of the machine; null when none is configured. Changes nothing. */
export async function examineRedis({ redisUrl }: Settings): Promise<{ ok: boolean; detail: string } | null> {
  if (redisUrl === null) return null;
  try {
    return { ok: true, detail: `${placeOfRedis(redisUrl)}: ${await redisVersion(redisUrl)}` };
  } catch (error) {
    return { ok: false, detail: (error as Error).message };
  }
}
