import { ok, strictEqual } from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { HandClock } from '../testing/limiter.ts';
import { maxBytes, responseCacheContract } from '../testing/response-cache.ts';
import { LocalCache } from './local-cache.ts';

responseCacheContract(async () => {
  const clock = new HandClock();
  return { cache: new LocalCache({ clock, maxBytes }), pass: async (milliseconds) => clock.pass(milliseconds) };
});

/** A text that takes so many bytes as an entry under a key of one character. */
const taking = (bytes: number) => 'x'.repeat((bytes - 302) / 2);

test('those that were asked for longest ago make place, and no more of them than must', async () => {
  const cache = new LocalCache({ clock: new HandClock(), maxBytes: 16_000 });
  const keys = 'abcdefghijklmnop'.split('');
  for (const key of keys) await cache.set(key, taking(1000), 60);
  strictEqual(cache.bytes, 16_000);
  for (const key of ['a', 'c']) ok(await cache.get(key));
  await cache.set('b', taking(900), 60);
  strictEqual(cache.bytes, 15_900);
  for (const key of ['q', 'r']) await cache.set(key, taking(1000), 60);
  const left: string[] = [];
  for (const key of [...keys, 'q', 'r']) if ((await cache.get(key)) !== null) left.push(key);
  strictEqual(left.join(''), 'abcfghijklmnopqr');
});

test('an entry may have a sixteenth of the bound and not more', async () => {
  const cache = new LocalCache({ clock: new HandClock(), maxBytes: 16_000 });
  await cache.set('a', taking(1002), 60);
  strictEqual(cache.bytes, 0);
  await cache.set('a', taking(1000), 60);
  strictEqual(cache.bytes, 1000);
});

/** Something is set, so large, or asked for when there is no size, after a while. */
const anAct = fc.record({
  key: fc.constantFrom(...'abcdefghijklmnopqrstuvwxyz'.split('')),
  bytes: fc.option(fc.integer({ min: 151, max: 520 }).map((half) => 2 * half)),
  wait: fc.nat(3000),
});

test('whatever is set and asked for, it gives what a plain list of the last uses gives, within its bound', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(anAct, { maxLength: 200 }), async (acts) => {
      const clock = new HandClock();
      const cache = new LocalCache({ clock, maxBytes: 16_000 });
      let kept: { key: string; bytes: number; until: number }[] = [];
      for (const { key, bytes, wait } of acts) {
        clock.pass(wait);
        const found = kept.find((entry) => entry.key === key);
        kept = kept.filter((entry) => entry !== found);
        if (bytes === null) {
          const valid = found && found.until > clock.monotonic() ? found : null;
          if (valid) kept.push(valid);
          strictEqual(await cache.get(key), valid && taking(valid.bytes));
        } else {
          await cache.set(key, taking(bytes), 10);
          if (bytes <= 1000) kept.push({ key, bytes, until: clock.monotonic() + 10_000 });
        }
        const sum = () => kept.reduce((total, entry) => total + entry.bytes, 0);
        while (sum() > 16_000) kept.shift();
        strictEqual(cache.bytes, sum());
        ok(cache.bytes <= 16_000);
      }
    }),
    { numRuns: 300 },
  );
});
