import { deepStrictEqual, ok, strictEqual } from 'node:assert/strict';
import { test } from 'node:test';
import { load, refused } from '../testing/settings.ts';
import { configurationId, describeSettings } from './describe.ts';
import { secretsOf } from './settings.ts';

const url = 'postgres://user:p%40ss-word@db.example:5433/name?sslmode=verify-full';

test('the address of the database is a secret, and so is the password in it', () => {
  const settings = load({ DATABASE_URL: url });
  strictEqual(settings.databaseUrl, url);
  deepStrictEqual(secretsOf(settings), [url, 'p%40ss-word', 'p@ss-word']);
  const line = describeSettings(settings).find(({ variable }) => variable === 'DATABASE_URL');
  deepStrictEqual([line?.value, line?.source], ['set', 'environment']);
  ok(!JSON.stringify(describeSettings(settings)).includes('ss-word'));
  const other = load({ DATABASE_URL: url.replace('db.', 'other.') });
  strictEqual(configurationId(other, '1'), configurationId(settings, '1'));
  strictEqual(load().databaseUrl, null);
});

test('what is no address of a database is refused and not shown', () => {
  const wrong = [
    'mysql://user:ss-word@db/name',
    'postgres://user:ss-word@db',
    'postgres://user:ss-word@db/',
    'postgres://user:ss-word@db/a/b',
    'postgres://user:%ss-word@db/name',
    'postgres://user:ss-word@/name',
    'user:ss-word@db/name',
    'postgres://user:ss-word@db/na me',
  ];
  for (const text of wrong) {
    const said = refused(() => load({ DATABASE_URL: text }));
    ok(said.startsWith('DATABASE_URL cannot be used; it must be an address such as '), said);
    ok(!said.includes('ss-word'), said);
  }
});
