import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MovedClock, MemoryKeys, keyRecord, ringOf } from './keys-support.ts';
import { createKeyRing, secretHash, type KeyInput, type Watch } from './keys.ts';
import type { KeyStore } from './ports.ts';

const limit = { timeout: 20_000 };

/** A ring over a store in memory, which a test changes as another process would. */
function made(configured: readonly KeyInput[] = []) {
  const clock = new MovedClock();
  const keys = new MemoryKeys(clock);
  const errors: unknown[] = [];
  return { clock, keys, errors, ring: ringOf(configured, keys, clock, errors) };
}

/** Resolves when the watched key is gone, with the reason. */
const gone = ({ gone: signal }: Watch): Promise<unknown> =>
  new Promise((resolve) => {
    const tell = () => resolve(signal.reason);
    if (signal.aborted) tell();
    else signal.addEventListener('abort', tell, { once: true });
  });

/** Resolves when the ring has looked at everything that it watches, since the call: another look has begun. */
async function looked(keys: MemoryKeys): Promise<void> {
  const from = keys.looks;
  while (keys.looks < from + 2) await new Promise((resolve) => setTimeout(resolve, 5));
}

const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;

/** What another process does to a key, by which whoever was let in with the secret is gone. */
const ends: Record<string, (parts: ReturnType<typeof made>) => Promise<unknown>> = {
  'is revoked': ({ keys, clock }) => keys.revoke('default', 'kept', clock.now()),
  'expires by a change': ({ keys, clock }) => keys.change('default', 'kept', { expiresAt: clock.now() }),
  'is rotated without overlap': ({ keys, clock }) => keys.rotate('default', 'kept', secretHash('new'), clock.now()),
  'is rotated twice': async ({ keys, clock }) => {
    for (const secret of ['new', 'newer']) {
      await keys.rotate('default', 'kept', secretHash(secret), clock.now() + 3_600_000);
    }
  },
};

describe('whoever is watched', { concurrency: true }, () => {
  for (const [what, end] of Object.entries(ends)) {
    test(`whoever holds a key is gone when it ${what} in another process`, limit, async () => {
      const parts = made();
      const { ring, keys } = parts;
      await keys.add(keyRecord('kept'));
      await keys.add(keyRecord('bystander'));
      const who = await ring.authenticate('secret-of-kept');
      const bystander = await ring.authenticate('secret-of-bystander');
      assert.ok(who && bystander);
      const [watch, second, beside] = [ring.watch(who), ring.watch(who), ring.watch(bystander)];
      await looked(keys);
      assert.equal(watch.gone.aborted, false);
      await end(parts);
      assert.equal(((await gone(watch)) as { code: string }).code, 'invalid_key');
      await gone(second);
      await looked(keys);
      assert.equal(beside.gone.aborted, false);
      beside.release();
    });
  }

  test('whoever holds a key is gone when its time is over, but not when it was given more', limit, async () => {
    const { ring, keys, clock } = made();
    for (const name of ['ends', 'longer']) await keys.add(keyRecord(name, { expiresAt: clock.now() + 1000 }));
    const watches = ['ends', 'longer'].map((key) => ring.watch({ tenant: 'default', key }));
    await looked(keys);
    assert.ok(watches.every((watch) => !watch.gone.aborted));
    await keys.change('default', 'longer', { expiresAt: clock.now() + 600_000 });
    clock.pass(300_000);
    assert.ok(watches[0] && watches[1]);
    await gone(watches[0]);
    await looked(keys);
    assert.equal(watches[1].gone.aborted, false);
    clock.pass(300_000);
    await gone(watches[1]);
  });

  test(
    'of a key that was rotated who has the old secret is gone after the overlap, and who has the new one stays',
    limit,
    async () => {
      const { ring, keys, clock } = made();
      await keys.add(keyRecord('kept'), 'old');
      const before = await ring.authenticate('old');
      await keys.rotate('default', 'kept', secretHash('new'), clock.now() + 600_000);
      const [old, fresh] = [await ring.authenticate('old'), await ring.authenticate('new')];
      assert.ok(before && old && fresh);
      const holders = [before, old, fresh, { tenant: 'default', key: 'kept' }];
      const watches = holders.map((who) => ring.watch(who));
      const who = () => watches.map((watch) => watch.gone.aborted);
      await looked(keys);
      clock.pass(599_999);
      await looked(keys);
      assert.deepEqual(who(), [false, false, false, false]);
      clock.pass(1);
      await Promise.all(watches.slice(0, 2).map(gone));
      await looked(keys);
      assert.deepEqual(who(), [true, true, false, false]);
      assert.deepEqual([await ring.current(old), (await ring.current(fresh))?.key], [null, 'kept']);
      for (const watch of watches) watch.release();
    },
  );

  test('a key that is not there, or not valid any more, when it is watched is gone', limit, async () => {
    const { ring, keys, clock } = made();
    await keys.add(keyRecord('kept'));
    const who = await ring.authenticate('secret-of-kept');
    assert.ok(who);
    await keys.revoke('default', 'kept', clock.now());
    clock.pass(3_600_000); // long after it was let in, and after the change
    await Promise.all(
      [who, { tenant: 'default', key: 'kept' }, { tenant: 'x', key: 'y' }].map((one) => gone(ring.watch(one))),
    );
  });

  test('a configured key is never gone, and costs no look', limit, async () => {
    const { ring, keys, clock } = made([{ name: 'a', role: 'user', tenant: 'default', secret: 'secret-of-a' }]);
    await keys.add(keyRecord('a'), 'of the store');
    await keys.add(keyRecord('kept'));
    const watch = ring.watch({ tenant: 'default', key: 'a' });
    assert.equal(keys.asked, 0);
    const beside = ring.watch({ tenant: 'default', key: 'kept' });
    await keys.revoke('default', 'a', clock.now());
    await looked(keys);
    assert.equal(watch.gone.aborted, false);
    watch.release();
    beside.release();
  });

  test('what changed while the store failed is found when it answers again', limit, async () => {
    const { ring, keys, clock, errors } = made();
    for (const name of ['kept', 'stays']) await keys.add(keyRecord(name));
    const watch = ring.watch({ tenant: 'default', key: 'kept' });
    const stays = ring.watch({ tenant: 'default', key: 'stays' });
    await looked(keys);
    keys.failure = new Error('boom');
    await looked(keys);
    await keys.revoke('default', 'kept', clock.now());
    clock.pass(9_000);
    await looked(keys);
    assert.equal(watch.gone.aborted, false);
    assert.equal(errors.length, 1, 'it is said once');
    keys.failure = null;
    await gone(watch);
    assert.equal(stays.gone.aborted, false);
    stays.release();
  });

  test('while the store fails nobody outlives a known end, and after ten seconds nobody stays', limit, async () => {
    const { ring, keys, clock } = made();
    await keys.add(keyRecord('brief', { expiresAt: clock.now() + 5_000 }));
    await keys.add(keyRecord('kept'));
    const brief = ring.watch({ tenant: 'default', key: 'brief' });
    const kept = ring.watch({ tenant: 'default', key: 'kept' });
    await looked(keys);
    keys.failure = new Error('boom');
    await looked(keys);
    assert.deepEqual([brief.gone.aborted, kept.gone.aborted], [false, false]);
    clock.pass(5_000);
    assert.equal(((await gone(brief)) as { code: string }).code, 'invalid_key');
    assert.equal(kept.gone.aborted, false);
    clock.pass(5_000);
    assert.equal(((await gone(kept)) as { code: string }).code, 'not_ready');
  });

  test('a key that cannot be read keeps no other one from being found gone', limit, async () => {
    const { keys, clock } = made();
    for (const name of ['broken', 'kept']) await keys.add(keyRecord(name));
    const store: KeyStore = Object.create(keys, {
      get: {
        value: (tenant: string, name: string) =>
          name === 'broken' ? Promise.reject(new Error('boom')) : keys.get(tenant, name),
      },
      changedSince: { value: (at: number) => keys.changedSince(at) },
    });
    const errors: unknown[] = [];
    const ring = createKeyRing({
      configured: [],
      keys: store,
      clock,
      logger: { info() {}, warn() {}, error: (data) => void errors.push(data) },
    });
    const broken = ring.watch({ tenant: 'default', key: 'broken' });
    const watch = ring.watch({ tenant: 'default', key: 'kept' });
    await looked(keys);
    await keys.revoke('default', 'kept', clock.now());
    await gone(watch);
    assert.equal(broken.gone.aborted, false);
    assert.equal(errors.length, 1);
    broken.release();
  });

  test('a wall clock that is set back hides no change', limit, async () => {
    const { ring, keys, clock } = made();
    await keys.add(keyRecord('kept'));
    clock.pass(3_600_000);
    const watch = ring.watch({ tenant: 'default', key: 'kept' });
    await looked(keys);
    clock.pass(-3_600_000);
    await keys.revoke('default', 'kept', clock.now());
    await gone(watch);
  });
});

test('many who hold one key are looked at as one, and the polling ends with the last of them', limit, async () => {
  const { ring, keys } = made();
  await keys.add(keyRecord('kept'));
  const before = timers();
  const watches = Array.from({ length: 500 }, () => ring.watch({ tenant: 'default', key: 'kept' }));
  await looked(keys);
  assert.ok(keys.asked < 20, String(keys.asked));
  for (const watch of watches.slice(1)) watch.release();
  await looked(keys);
  watches[0]?.release();
  watches[0]?.release();
  const asked = keys.asked;
  await new Promise((resolve) => setTimeout(resolve, 600));
  assert.equal(keys.asked, asked, 'nobody is asked any more');
  assert.ok(timers() <= before);
  ring.watch({ tenant: 'default', key: 'kept' });
  await looked(keys);
  ring.close();
  const closed = keys.asked;
  await new Promise((resolve) => setTimeout(resolve, 600));
  assert.ok(keys.asked <= closed + 1);
});

test('the polling ends when all that were watched are gone', limit, async () => {
  const { ring, keys, clock } = made();
  await keys.add(keyRecord('kept', { expiresAt: clock.now() + 1 }));
  const watch = ring.watch({ tenant: 'default', key: 'kept' });
  clock.pass(1);
  await gone(watch);
  const { asked } = keys;
  await new Promise((resolve) => setTimeout(resolve, 600));
  assert.equal(keys.asked, asked);
  watch.release();
});
