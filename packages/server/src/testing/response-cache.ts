import { ok, strictEqual } from 'node:assert/strict';
import type { TestContext } from 'node:test';
import type { ResponseCache } from '../engine/ports.ts';
import { awkwardJson, declare, type Promises } from './contract.ts';

/** A cache of a test, empty at first. */
export interface Cached {
  readonly cache: ResponseCache;
  /** Lets so many milliseconds pass for the cache. */
  readonly pass: (milliseconds: number) => Promise<void>;
}

/** What the entries of a cache may take in the tests, in bytes. */
export const maxBytes = 640_000_000;

/** What every `ResponseCache` promises. `make` gives one whose entries may take `maxBytes` together. */
export function responseCacheContract(make: (t: TestContext) => Promise<Cached>): void {
  declare('response cache', promises, make);
}

const promises: Promises<Cached> = {
  'what was set is given as it was, and nothing where nothing was set': async ({ cache }) => {
    const values = [...awkwardJson.map((value) => JSON.stringify(value)), '""', 'null', '[]'];
    for (const [index, value] of values.entries()) {
      strictEqual(await cache.get(`key ${index}`), null);
      await cache.set(`key ${index}`, value, 60);
    }
    for (const [index, value] of values.entries()) ok((await cache.get(`key ${index}`)) === value, `key ${index}`);
  },

  'keys with a common beginning share nothing': async ({ cache }) => {
    const keys = ['a', 'a:', 'a:b', 'ab', '', '__proto__', 'constructor', '["a","b"]', `${'x'.repeat(500)}1`];
    for (const key of keys) {
      strictEqual(await cache.get(key), null, key);
      await cache.set(key, JSON.stringify(key), 60);
    }
    for (const key of keys) strictEqual(await cache.get(key), JSON.stringify(key));
  },

  'it is there until its time has passed, however often it is asked for, and not after': async ({ cache, pass }) => {
    await cache.set('short', '1', 2);
    await cache.set('long', '2', 60);
    for (const part of [500, 500, 500]) {
      await pass(part);
      strictEqual(await cache.get('short'), '1');
    }
    await pass(501);
    strictEqual(await cache.get('short'), null);
    strictEqual(await cache.get('long'), '2');
  },

  'what is set again takes the place of what was there, with a time of its own': async ({ cache, pass }) => {
    await cache.set('key', '1', 2);
    await pass(1500);
    await cache.set('key', '2', 2);
    strictEqual(await cache.get('key'), '2');
    await pass(1000);
    strictEqual(await cache.get('key'), '2');
    await cache.set('key', '3', 60);
    await cache.set('key', '4', 1);
    await pass(1001);
    strictEqual(await cache.get('key'), null);
  },

  'what is larger than a sixteenth of its bound is not kept, nor what was there before': async ({ cache }) => {
    await cache.set('key', '"small"', 60);
    await cache.set('other', '"small"', 60);
    await cache.set('key', `"${'x'.repeat(maxBytes / 16)}"`, 60);
    strictEqual(await cache.get('key'), null);
    strictEqual(await cache.get('other'), '"small"');
    await cache.set('key', '"small again"', 60);
    strictEqual(await cache.get('key'), '"small again"');
  },

  'of what is set at once one is there, whole': async ({ cache }) => {
    const values = Array.from({ length: 50 }, (_, index) => JSON.stringify(`${index} `.repeat(5000)));
    await Promise.all(
      values.map(async (value) => {
        await cache.set('key', value, 60);
        const found = await cache.get('key');
        ok(found !== null && values.includes(found));
      }),
    );
  },
};
