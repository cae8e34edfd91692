import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createKeyRing, type KeyInput } from './keys.ts';

const key = (name: string, changes: Partial<KeyInput> = {}): KeyInput => ({
  name,
  role: 'user',
  tenant: 'default',
  secret: `secret-of-${name}`,
  ...changes,
});

test('a key is found by its secret, and by its tenant and name', () => {
  const ring = createKeyRing([key('a'), key('b', { role: 'admin' }), key('c', { tenant: 'other' })]);
  assert.deepEqual(ring.authenticate('secret-of-b'), { tenant: 'default', key: 'b', role: 'admin' });
  assert.deepEqual(ring.named('default', 'b'), { tenant: 'default', key: 'b', role: 'admin' });
  assert.deepEqual(ring.named('other', 'c'), { tenant: 'other', key: 'c', role: 'user' });
});

test('what is no key has no principal', () => {
  const ring = createKeyRing([key('a'), key('c', { tenant: 'other' })]);
  for (const secret of ['', 'a', 'secret-of-', 'secret-of-aa', 'SECRET-OF-A'])
    assert.equal(ring.authenticate(secret), null);
  for (const [tenant, name] of [
    ['default', 'c'],
    ['other', 'a'],
    ['', 'a'],
    ['default', ''],
    ['default', 'secret-of-a'],
    ['default', '__proto__'],
  ] as const) {
    assert.equal(ring.named(tenant, name), null);
  }
});

test('keys that could not be told apart make no ring', () => {
  assert.throws(() => createKeyRing([key('a'), key('b', { secret: 'secret-of-a' })]), /same secret/);
  assert.throws(() => createKeyRing([key('a'), key('a', { secret: 'x', role: 'admin' })]), /same name/);
  assert.doesNotThrow(() => createKeyRing([key('a'), key('a', { secret: 'x', tenant: 'other' })]));
});
