import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MovedClock, MemoryKeys, keyRecord, ringOf } from './keys-support.ts';
import { secretHash, type KeyInput } from './keys.ts';

const input = (name: string, changes: Partial<KeyInput> = {}): KeyInput => ({
  name,
  role: 'user',
  tenant: 'default',
  secret: `secret-of-${name}`,
  ...changes,
});

const principal = (key: string, changes: object = {}) => ({
  tenant: 'default',
  key,
  role: 'user',
  narrowing: null,
  expiresAt: null,
  secretHash: null,
  ...changes,
});

/** A ring over a store in memory. */
function made(configured: readonly KeyInput[] = []) {
  const clock = new MovedClock();
  const keys = new MemoryKeys(clock);
  return { clock, keys, ring: ringOf(configured, keys, clock) };
}

test('a configured key is found by its secret, and by its tenant and name', async () => {
  const { ring, keys } = made([input('a'), input('b', { role: 'admin' }), input('c', { tenant: 'other' })]);
  assert.deepEqual(await ring.authenticate('secret-of-b'), principal('b', { role: 'admin' }));
  assert.deepEqual(await ring.named('default', 'b'), principal('b', { role: 'admin' }));
  assert.deepEqual(await ring.named('other', 'c'), principal('c', { tenant: 'other' }));
  assert.equal(keys.asked, 0, 'nobody has to be asked about them');
});

test('a stored key is found by its secret and by its name, with what it may', async () => {
  const { ring, keys } = made([input('a')]);
  const narrowing = { permissionModes: ['readOnly'] as const, tools: null, models: null } as const;
  const narrowed = { ...narrowing, workspaceRoots: null, rates: { burst: 2 }, budgets: null };
  await keys.add(keyRecord('kept', { tenant: 'other', role: 'viewer', narrowing: narrowed, expiresAt: 9e15 }));
  const expected = principal('kept', { tenant: 'other', role: 'viewer', narrowing: narrowed, expiresAt: 9e15 });
  const letIn = { ...expected, secretHash: secretHash('secret-of-kept') };
  assert.deepEqual(await ring.authenticate('secret-of-kept'), letIn);
  assert.deepEqual(await ring.named('other', 'kept'), expected);
});

test('what is no key has no principal', async () => {
  const { ring, keys } = made([input('a'), input('c', { tenant: 'other' })]);
  await keys.add(keyRecord('kept'));
  const hash = secretHash('secret-of-kept');
  for (const secret of [
    '',
    'a',
    'secret-of-',
    'secret-of-aa',
    'SECRET-OF-A',
    'kept',
    'secret-of-kept ',
    hash,
    '\ud800',
  ]) {
    assert.equal(await ring.authenticate(secret), null, secret);
  }
  for (const [tenant, name] of [
    ['default', 'c'],
    ['other', 'a'],
    ['other', 'kept'],
    ['', 'a'],
    ['default', ''],
    ['default', 'secret-of-a'],
    ['default', '__proto__'],
  ] as const) {
    assert.equal(await ring.named(tenant, name), null);
  }
});

test('keys that could not be told apart make no ring', () => {
  const make = (...configured: KeyInput[]) => made(configured);
  assert.throws(() => make(input('a'), input('b', { secret: 'secret-of-a' })), /same secret/);
  assert.throws(() => make(input('a'), input('a', { secret: 'x', role: 'admin' })), /same name/);
  assert.doesNotThrow(() => make(input('a'), input('a', { secret: 'x', tenant: 'other' })));
});

test('a stored key with the name of a configured one is nobody, and its name is the configured one', async () => {
  const { ring, keys } = made([input('a')]);
  await keys.add(keyRecord('a', { role: 'admin' }), 'another secret');
  assert.equal(await ring.authenticate('another secret'), null);
  assert.deepEqual(await ring.named('default', 'a'), principal('a'));
  await keys.add(keyRecord('a', { tenant: 'other' }), 'a third secret');
  const third = principal('a', { tenant: 'other', secretHash: secretHash('a third secret') });
  assert.deepEqual(await ring.authenticate('a third secret'), third);
});

test('a key expires at its millisecond, and one that is revoked is nobody at once', async () => {
  const { ring, keys, clock } = made();
  await keys.add(keyRecord('brief', { expiresAt: clock.now() + 1000 }));
  await keys.add(keyRecord('kept'));
  const brief = await ring.authenticate('secret-of-brief');
  assert.ok(brief);
  clock.pass(999);
  assert.ok(await ring.authenticate('secret-of-brief'));
  assert.ok(await ring.named('default', 'brief'));
  clock.pass(1);
  assert.equal(await ring.authenticate('secret-of-brief'), null);
  assert.equal(await ring.named('default', 'brief'), null);
  assert.equal(await ring.current(brief), null);
  await keys.change('default', 'brief', { expiresAt: clock.now() + 1 });
  assert.ok(await ring.authenticate('secret-of-brief'), 'as long as it is not revoked it can be made valid again');
  const kept = await ring.authenticate('secret-of-kept');
  assert.ok(kept);
  await keys.revoke('default', 'kept', clock.now());
  assert.equal(await ring.authenticate('secret-of-kept'), null);
  assert.equal(await ring.named('default', 'kept'), null);
  assert.equal(await ring.current(kept), null);
});

test('a key that was rotated has its old secret until the end of the overlap, and not longer than itself', async () => {
  const { ring, keys, clock } = made();
  for (const [overlap, expires, until] of [
    [1000, null, 1000],
    [1000, 5000, 1000],
    [5000, 1000, 1000],
  ] as const) {
    const from = clock.now();
    const name = `rotated-${overlap}-${expires}`;
    await keys.add(keyRecord(name, { expiresAt: expires && from + expires }), `old ${name}`);
    await keys.rotate('default', name, secretHash(`new ${name}`), from + overlap);
    assert.equal((await ring.authenticate(`old ${name}`))?.expiresAt, from + until);
    assert.equal((await ring.authenticate(`new ${name}`))?.expiresAt, expires && from + expires);
    assert.equal((await ring.named('default', name))?.expiresAt, expires && from + expires);
    clock.pass(until - 1);
    assert.ok(await ring.authenticate(`old ${name}`));
    clock.pass(1);
    assert.equal(await ring.authenticate(`old ${name}`), null);
  }
  assert.ok(await ring.authenticate('new rotated-1000-null'));
});

test('who was let in is known as the key is now', async () => {
  const { ring, keys } = made([input('a')]);
  await keys.add(keyRecord('kept'));
  const [kept, configured] = [await ring.authenticate('secret-of-kept'), await ring.authenticate('secret-of-a')];
  assert.ok(kept && configured);
  await keys.change('default', 'kept', { expiresAt: 9e15 });
  assert.equal((await ring.current(kept))?.expiresAt, 9e15);
  assert.equal(kept.expiresAt, null, 'what was given stays as it was');
  assert.equal(await ring.current(configured), configured);
});

test('a store that fails lets nobody in', async () => {
  const { ring, keys } = made([input('a')]);
  await keys.add(keyRecord('kept'));
  const who = await ring.authenticate('secret-of-kept');
  assert.ok(who);
  keys.failure = new Error('boom');
  await assert.rejects(ring.authenticate('secret-of-kept'), /boom/);
  await assert.rejects(ring.authenticate('anything'), /boom/);
  await assert.rejects(ring.named('default', 'kept'), /boom/);
  await assert.rejects(ring.current(who), /boom/);
  assert.ok(await ring.authenticate('secret-of-a'), 'a configured key needs no store');
});
