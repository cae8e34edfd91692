import { deepStrictEqual, strictEqual } from 'node:assert/strict';
import { test } from 'node:test';
import type { Limiter, RateLimits } from '../engine/ports.ts';
import { HandClock, limiterContract } from '../testing/limiter.ts';
import { DegradingLimiter, shareLimiter } from './degrading-limiter.ts';
import { LocalLimiter } from './local.ts';

/** A limiter that can be taken away. */
class Shared implements Limiter {
  readonly #counts: Limiter;
  isUp = true;
  asked = 0;

  constructor(clock: HandClock) {
    this.#counts = new LocalLimiter({ clock });
  }

  async take(subject: string, limits: RateLimits) {
    this.asked += 1;
    if (!this.isUp) throw new Error('away');
    return await this.#counts.take(subject, limits);
  }
}

const limits: RateLimits = { perMinute: 0, perHour: 25, burst: 10 };

function limiterOf(nodes = 3) {
  const clock = new HandClock();
  const shared = new Shared(clock);
  const make = () => new DegradingLimiter({ shared, local: new LocalLimiter({ clock }), nodes: () => nodes });
  const limiter = make();
  /** How many of a hundred are let through. */
  const letThrough = async (of: Limiter = limiter, given = limits) => {
    let count = 0;
    for (let tries = 0; tries < 100; tries += 1) if ((await of.take('a', given)).allowed) count += 1;
    return count;
  };
  return { clock, shared, limiter, make, letThrough };
}

for (const isUp of [true, false]) {
  limiterContract(async (_, clock) => {
    const shared = new Shared(clock as HandClock);
    shared.isUp = isUp;
    return new DegradingLimiter({ shared, local: new LocalLimiter({ clock }), nodes: () => 1 });
  });
}

test('without the shared one a node lets through its share, rounded up, and says what that is', async () => {
  const { shared, limiter, letThrough } = limiterOf();
  shared.isUp = false;
  const { limits: told } = await limiter.take('b', limits);
  deepStrictEqual(told, { perMinute: 0, perHour: 9, burst: 4 });
  strictEqual(await letThrough(), 4);
});

test('what was let through before it failed counts, and what it decides again is its own', async () => {
  const { shared, limiter, letThrough, clock } = limiterOf();
  for (let count = 0; count < 3; count += 1) await limiter.take('a', limits);
  shared.isUp = false;
  strictEqual(await letThrough(), 1);
  shared.isUp = true;
  strictEqual(await letThrough(), 7);
  shared.isUp = false;
  strictEqual(await letThrough(), 0);
  clock.pass(10_000);
  strictEqual(await letThrough(), 4);
});

test('however often it comes and goes, all nodes let through no more than the limit and their shares', async () => {
  const { shared, make, letThrough } = limiterOf();
  const nodes = [make(), make(), make()];
  let total = 0;
  for (let change = 0; change < 20; change += 1) {
    shared.isUp = !shared.isUp;
    for (const node of nodes) total += await letThrough(node);
  }
  strictEqual(total, 10 + 3 * 4);
});

test('where there is no limit nobody is asked', async () => {
  const { shared, limiter } = limiterOf();
  strictEqual((await limiter.take('a', { perMinute: 0, perHour: 0, burst: 0 })).allowed, true);
  strictEqual(shared.asked, 0);
});

test('where nothing counts for all nodes each lets through its share, and one alone the limit', async () => {
  for (const [nodes, share] of [
    [1, 10],
    [2, 5],
    [3, 4],
  ] as const) {
    const { clock, letThrough } = limiterOf();
    strictEqual(await letThrough(shareLimiter(new LocalLimiter({ clock }), () => nodes)), share);
  }
});
