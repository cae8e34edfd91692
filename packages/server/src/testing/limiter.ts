import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import type { TestContext } from 'node:test';
import fc from 'fast-check';
import type { Clock } from '../engine/clock.ts';
import type { Limiter, RateLimits, RateVerdict } from '../engine/ports.ts';
import { declare, type Promises } from './contract.ts';

/** A clock that a test moves; its two times begin apart, as real ones do. */
export class HandClock implements Clock {
  #passed = 0;

  now(): number {
    return 1_700_000_000_250 + this.#passed;
  }

  monotonic(): number {
    return 12_345.678 + this.#passed;
  }

  /** Moves both times on. */
  pass(milliseconds: number): void {
    this.#passed += milliseconds;
  }
}

interface Limited {
  readonly limiter: Limiter;
  readonly clock: HandClock;
}

/** What every `Limiter` promises. */
export function limiterContract(make: (t: TestContext, clock: Clock) => Promise<Limiter>): void {
  declare('limiter', promises, async (t) => {
    const clock = new HandClock();
    return { clock, limiter: await make(t, clock) };
  });
}

const second = 1000;
const minute = 60 * second;
const usual: RateLimits = { perMinute: 30, perHour: 500, burst: 10 };
const off: RateLimits = { perMinute: 0, perHour: 0, burst: 0 };

/** Takes until one is refused, at most a thousand, and gives how many were not. */
async function takeAll({ limiter }: Limited, subject: string, limits: RateLimits): Promise<number> {
  for (let taken = 0; taken < 1000; taken += 1) if (!(await limiter.take(subject, limits)).allowed) return taken;
  return 1000;
}

const shown = ({ allowed, remainingMinute, remainingHour, retryAfter }: RateVerdict) => ({
  allowed,
  remainingMinute,
  remainingHour,
  retryAfter,
});

const promises: Promises<Limited> = {
  'of a hundred that ask at once, as many are let through as there are places': async ({ limiter }) => {
    const verdicts = await Promise.all(Array.from({ length: 100 }, () => limiter.take('a', usual)));
    const allowed = verdicts.filter((verdict) => verdict.allowed);
    strictEqual(allowed.length, 10);
    const minutes = allowed.map(({ remainingMinute }) => remainingMinute).toSorted((a, b) => b - a);
    deepStrictEqual(minutes, [29, 28, 27, 26, 25, 24, 23, 22, 21, 20]);
  },

  'each window is one of its own: the request after the 500th is refused in the 59th minute': async (limited) => {
    const { limiter, clock } = limited;
    for (let count = 0; count < 500; count += 1) {
      const verdict = await limiter.take('a', usual);
      ok(verdict.allowed, `request ${count + 1}`);
      strictEqual(verdict.remainingHour, 499 - count);
      clock.pass(7 * second);
    }
    clock.pass(59 * minute - 500 * 7 * second);
    const refused = await limiter.take('a', usual);
    deepStrictEqual(shown(refused), { allowed: false, remainingMinute: 28, remainingHour: 0, retryAfter: 60 });
    strictEqual(refused.resetAt, Math.ceil((clock.now() + minute) / 1000));
    clock.pass(59 * second);
    strictEqual((await limiter.take('a', usual)).retryAfter, 1);
    clock.pass(second);
    deepStrictEqual(await takeAll(limited, 'a', usual), 1);
    strictEqual((await limiter.take('a', usual)).retryAfter, 7);
  },

  'the burst is let through again 10 seconds later, and the minute bounds the third': async (limited) => {
    const { limiter, clock } = limited;
    for (const left of [20, 10, 0]) {
      strictEqual(await takeAll(limited, 'a', usual), 10);
      const refused = await limiter.take('a', usual);
      strictEqual(refused.remainingMinute, left);
      strictEqual(refused.retryAfter, left === 0 ? 40 : 10);
      clock.pass(10 * second);
    }
    strictEqual((await limiter.take('a', usual)).retryAfter, 30);
  },

  'who is refused is not charged, however often': async (limited) => {
    const { limiter, clock } = limited;
    strictEqual(await takeAll(limited, 'a', usual), 10);
    for (let tries = 0; tries < 99; tries += 1) {
      clock.pass(100);
      strictEqual((await limiter.take('a', usual)).allowed, false);
    }
    clock.pass(100);
    deepStrictEqual(shown(await limiter.take('a', usual)), {
      allowed: true,
      remainingMinute: 19,
      remainingHour: 489,
      retryAfter: 0,
    });
  },

  'a window that is off bounds nothing, and all can be off': async (limited) => {
    strictEqual(await takeAll(limited, 'a', off), 1000);
    const { retryAfter, remainingMinute } = await limited.limiter.take('a', off);
    deepStrictEqual([retryAfter, remainingMinute], [0, 0]);
    strictEqual(await takeAll(limited, 'b', { ...off, perMinute: 3 }), 3);
    strictEqual(await takeAll(limited, 'c', { ...off, perHour: 4 }), 4);
    strictEqual(await takeAll(limited, 'd', { ...off, burst: 5 }), 5);
  },

  'subjects with a common beginning share nothing': async (limited) => {
    for (const subject of [
      'a',
      'a:',
      'a:b',
      'ab',
      '',
      '__proto__',
      '["a","b"]',
      `${'x'.repeat(500)}1`,
      'x'.repeat(500),
    ])
      strictEqual(await takeAll(limited, subject, usual), 10, subject);
  },

  'limits that were lowered hold at once, and the wait is true': async (limited) => {
    const { limiter, clock } = limited;
    strictEqual(await takeAll(limited, 'a', usual), 10);
    const lower = { ...off, perMinute: 5 };
    clock.pass(minute - 1);
    deepStrictEqual(shown(await limiter.take('a', lower)), {
      allowed: false,
      remainingMinute: 0,
      remainingHour: 0,
      retryAfter: 1,
    });
    clock.pass(1);
    strictEqual(await takeAll(limited, 'a', lower), 5);
  },

  'any history is judged as a plain count of the past judges it': async ({ limiter, clock }) => {
    let history = 0;
    await fc.assert(
      fc.asyncProperty(anyLimits, fc.array(anAct, { maxLength: 60 }), async (limits, acts) => {
        history += 1;
        await comparesWell({ limiter, clock }, limits, acts, `history ${history} of `);
      }),
      { numRuns: 1000, examples: kept },
    );
  },
};

const anyLimits: fc.Arbitrary<RateLimits> = fc.record({
  perMinute: fc.nat(6),
  perHour: fc.nat(9),
  burst: fc.nat(3),
});

/** One of three subjects asks after milliseconds. */
type Act = readonly [subject: number, wait: number];
const edges = [
  0,
  1,
  second - 1,
  second,
  10 * second - 1,
  10 * second,
  minute - 1,
  minute,
  60 * minute - 1,
  60 * minute,
];
const anAct: fc.Arbitrary<Act> = fc.tuple(
  fc.constantFrom(0, 0, 0, 1, 2),
  fc.oneof(fc.constantFrom(...edges), fc.nat(3 * second), fc.nat(20 * minute), fc.constantFrom(0.1, 0.5, 333.3)),
);

/** Histories that any limiter has to get right, before the drawn ones. */
const kept: [RateLimits, Act[]][] = [
  [{ perMinute: 1, perHour: 2, burst: 1 }, edges.map((wait): Act => [0, wait])],
  [
    { perMinute: 0, perHour: 1, burst: 0 },
    [
      [0, 0.5],
      [0, 60 * minute - 0.5],
      [0, 0.5],
      [0, 60 * minute],
    ],
  ],
  [
    { perMinute: 2, perHour: 0, burst: 0 },
    [
      [0, 0],
      [0, 59_999],
      [0, 0],
      [0, 1],
      [0, 0],
    ],
  ],
];

const lengths = [
  ['burst', 10 * second],
  ['perMinute', minute],
  ['perHour', 60 * minute],
] as const;

/** How many of the past are in a window that ends now. */
const within = (past: readonly number[], length: number, now: number): number =>
  past.filter((time) => time + length > now).length;

const allows = (past: readonly number[], limits: RateLimits, now: number): boolean =>
  lengths.every(([limit, length]) => limits[limit] === 0 || within(past, length, now) < limits[limit]);

async function comparesWell(limited: Limited, limits: RateLimits, acts: readonly Act[], prefix: string) {
  const { limiter, clock } = limited;
  const pasts: number[][] = [[], [], []];
  for (const [subject, wait] of acts) {
    clock.pass(wait);
    const now = Math.floor(clock.monotonic());
    const past = pasts[subject] ?? [];
    const verdict = await limiter.take(`${prefix}${subject}`, limits);
    strictEqual(verdict.allowed, allows(past, limits, now));
    if (verdict.allowed) past.push(now);
    for (const [limit, length, told] of [
      ['perMinute', minute, verdict.remainingMinute],
      ['perHour', 60 * minute, verdict.remainingHour],
    ] as const) {
      strictEqual(told, limits[limit] === 0 ? 0 : limits[limit] - within(past, length, now), limit);
    }
    if (verdict.allowed) {
      strictEqual(verdict.retryAfter, 0);
      ok(verdict.resetAt * 1000 >= clock.now() && verdict.resetAt * 1000 <= clock.now() + 61 * minute);
      continue;
    }
    // Waiting it out succeeds, and a second less does not.
    strictEqual(allows(past, limits, now + verdict.retryAfter * second), true);
    strictEqual(allows(past, limits, now + (verdict.retryAfter - 1) * second), false);
    ok(Math.abs(verdict.resetAt - (clock.now() / second + verdict.retryAfter)) <= 1);
  }
}
