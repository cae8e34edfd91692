import { createHash } from 'node:crypto';
import { ErrorReply } from '@redis/client';
import type { Clock } from '../engine/clock.ts';
import type { Limiter, RateLimits, RateVerdict } from '../engine/ports.ts';
import type { Redis } from './redis.ts';
import { activeWindows, verdictOf } from './windows.ts';

export interface RedisLimiterOptions {
  readonly redis: Redis;
  /** What the names of its subjects begin with in Redis; no other limiter has the same. */
  readonly prefix: string;
  /** In place of Redis' own clock, for tests. */
  readonly clock?: Clock;
}

/**
 * The times of what was let through for one subject, the oldest first, are a list. All windows are looked at, and the
 * request is written down only when all have a place, in one step. The key goes with the last request in it.
 *
 * Takes the time, or nothing for Redis' own, then limit and length of each window, the shortest first. Gives the time,
 * when every window has a place, and of each window its free places and when it frees the next.
 */
const script = `
local key = KEYS[1]
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
if #ARGV == 1 then return { now, now } end

local function at(index) return tonumber(redis.call('LINDEX', key, index)) end
local count = redis.call('LLEN', key)

-- A clock that was set back, or of a server that took over: the times go on from the last one, unless that is far ahead.
if count > 0 and at(-1) > now then
  if at(-1) - now > 10000 then
    redis.call('DEL', key)
    count = 0
  else
    now = at(-1)
  end
end

local function first_after(moment)
  local from, to = 0, count
  while from < to do
    local middle = math.floor((from + to) / 2)
    if at(middle) > moment then to = middle else from = middle + 1 end
  end
  return from
end

local longest = tonumber(ARGV[#ARGV])
local gone = first_after(now - longest)
if gone > 0 then
  redis.call('LTRIM', key, gone, -1)
  count = count - gone
end

local opens = now
for place = 2, #ARGV, 2 do
  local index = count - tonumber(ARGV[place])
  if index >= 0 then opens = math.max(opens, at(index) + tonumber(ARGV[place + 1])) end
end
if opens <= now then
  redis.call('RPUSH', key, string.format('%.0f', now))
  redis.call('PEXPIRE', key, longest)
  count = count + 1
end

local found = { now, opens }
for place = 2, #ARGV, 2 do
  local length = tonumber(ARGV[place + 1])
  local oldest = first_after(now - length)
  found[#found + 1] = tonumber(ARGV[place]) - (count - oldest)
  found[#found + 1] = oldest < count and at(oldest) + length or now
end
return found
`;

/** Its name for a Redis that has it. */
const scriptHash = createHash('sha1').update(script).digest('hex');

/**
 * Counts in Redis for all nodes together: exactly, by the time of every request that was let through, and by Redis' own
 * clock, so that those of the nodes do not matter. A subject is forgotten when its longest window is empty; until then
 * it takes memory for as many times as its limits let through.
 */
export class RedisLimiter implements Limiter {
  readonly #redis: Redis;
  readonly #prefix: string;
  readonly #clock: Clock | undefined;

  constructor({ redis, prefix, clock }: RedisLimiterOptions) {
    this.#redis = redis;
    this.#prefix = prefix;
    this.#clock = clock;
  }

  /** Rejects as `Redis.ask` does; the request may have been counted then. */
  async take(subject: string, limits: RateLimits): Promise<RateVerdict> {
    const active = activeWindows(limits);
    const given = this.#clock ? String(Math.floor(this.#clock.monotonic())) : '';
    const windows = active.flatMap(({ limit, length }) => [String(limits[limit]), String(length)]);
    const request = { keys: [`${this.#prefix}${subject}`], arguments: [given, ...windows] };
    const answer = await this.#redis.ask(async (client) => {
      try {
        return await client.evalSha(scriptHash, request);
      } catch (error) {
        // One that was started again has forgotten it.
        if (!(error instanceof ErrorReply && error.message.startsWith('NOSCRIPT'))) throw error;
        return await client.eval(script, request);
      }
    });
    const [now = 0, opensAt = 0, ...rest] = answer as number[];
    const found = active.map((_, index) => ({ free: rest[2 * index] ?? 0, freesAt: rest[2 * index + 1] ?? now }));
    return verdictOf(limits, { now, opensAt, windows: found }, this.#clock?.now() ?? now);
  }
}
