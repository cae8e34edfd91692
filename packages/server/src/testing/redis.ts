import { after, type TestContext } from 'node:test';
import { startRedis, type RedisServer } from '../../../../test/support/redis.ts';
import type { Log } from '../engine/ports.ts';
import { Redis, type RedisBounds } from '../coordination/redis.ts';

/** A line that a test's log was told. */
export interface Told {
  readonly level: 'info' | 'warn' | 'error';
  readonly data: object;
  readonly message: string;
}

/** A log that keeps what it is told. */
export function keepingLog(): { readonly told: Told[]; readonly logger: Log } {
  const told: Told[] = [];
  const at = (level: Told['level']) => (data: object, message: string) => void told.push({ level, data, message });
  return { told, logger: { info: at('info'), warn: at('warn'), error: at('error') } };
}

/** A server for the tests of a file, which goes with them, and connections to it. */
export interface RedisForTests {
  readonly server: RedisServer;
  /** A connection that is closed after the test, not connected yet. */
  connect(t: TestContext, bounds?: Partial<RedisBounds>, logger?: Log, url?: string): Redis;
  /** The same, connected. */
  connected(t: TestContext, bounds?: Partial<RedisBounds>, logger?: Log): Promise<Redis>;
  /** What nothing else in Redis begins with. */
  newPrefix(): string;
}

/** No promise depends on how busy the machine is. */
const generous: RedisBounds = { answerMs: 120_000, startMs: 120_000, pingMs: 1000, silenceMs: 120_000 };

/** Starts Redis for the tests of this file. */
export async function redisForTests(): Promise<RedisForTests> {
  const server = await startRedis();
  after(() => server.close());
  let made = 0;
  const connect: RedisForTests['connect'] = (t, bounds = {}, logger = keepingLog().logger, url = server.url) => {
    const redis = new Redis({ url, name: 'test', logger, bounds: { ...generous, ...bounds } });
    t.after(() => redis.close());
    return redis;
  };
  return {
    server,
    connect,
    async connected(t, bounds, logger) {
      const redis = connect(t, bounds, logger);
      await redis.start();
      return redis;
    },
    newPrefix: () => `test:${(made += 1)}:`,
  };
}
