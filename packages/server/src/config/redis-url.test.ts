import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import { test } from 'node:test';
import { load, refused } from '../testing/settings.ts';
import { configurationId, describeSettings } from './describe.ts';
import { secretsOf } from './settings.ts';

const url = 'rediss://user:p%40ss-word@redis.example:6380/3';

test('the address of Redis is a secret, and so is the password in it', () => {
  const settings = load({ REDIS_URL: url });
  strictEqual(settings.redisUrl, url);
  deepStrictEqual(secretsOf(settings), [url, 'p%40ss-word', 'p@ss-word']);
  const line = describeSettings(settings).find(({ variable }) => variable === 'REDIS_URL');
  deepStrictEqual([line?.value, line?.source], ['set', 'environment']);
  ok(!JSON.stringify(describeSettings(settings)).includes('ss-word'));
  strictEqual(load().redisUrl, null);
});

test('an address may leave out all but the host', () => {
  for (const text of ['redis://redis', 'redis://:ss-word@[::1]:1', 'rediss://redis/', 'redis://127.0.0.1/15'])
    strictEqual(load({ REDIS_URL: text }).redisUrl, text);
});

test('what is no address of a Redis is refused and not shown', () => {
  const wrong = [
    'http://:ss-word@redis',
    'redis://:ss-word@/0',
    'redis://:ss-word@redis:port',
    'redis://:ss-word@redis/name',
    'redis://:ss-word@redis/0/1',
    'redis://ss-word@redis',
    'redis://:%ss-word@redis',
    'redis://:ss-word@redis/0?db=1',
    'redis://:ss-word@redis#1',
    'redis://:ss-word@re dis',
    'ss-word@redis:6379',
  ];
  for (const text of wrong) {
    const said = refused(() => load({ REDIS_URL: text }));
    ok(said.startsWith('REDIS_URL cannot be used; it must be an address such as '), said);
    ok(!said.includes('ss-word'), said);
  }
});

test('nodes on machines of their own have one configuration, and another setting is another one', () => {
  const id = (env: Record<string, string>) => configurationId(load({ REDIS_URL: url, ...env }), '1');
  const here = id({});
  const there = { SALLYPORT_PORT: '8001', SALLYPORT_DATA_DIR: '/other', SALLYPORT_MAX_PROCESSES: '3' };
  strictEqual(id(there), here);
  for (const other of [{ SALLYPORT_CACHE_TTL: '1' }, { SALLYPORT_MODELS: 'other' }, { REDIS_URL: '' }])
    ok(id(other) !== here, JSON.stringify(other));
});
