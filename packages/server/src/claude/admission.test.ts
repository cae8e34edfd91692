import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SallyportError } from '../engine/errors.ts';
import { createPlaces, type Entering, type Leave, type PlacesOptions } from './admission.ts';

const never = new AbortController().signal;

/** Places, and a clock that moves when it is told to. */
function made(options: Pick<PlacesOptions, 'places' | 'waiting'> & Partial<PlacesOptions>) {
  let now = 0;
  const clock = { now: () => now, monotonic: () => now };
  const all = createPlaces({ cores: Infinity, clock, ...options });
  return {
    all,
    enter: (name: string, entering?: Entering, signal = never) => {
      const [tenant = '', key = 'key'] = name.split('/');
      return all.enter({ tenant, key }, signal, entering);
    },
    refuse: (tenant: string, patienceMs = Infinity) => all.refuse({ tenant, key: 'key' }, patienceMs),
    pass(ms: number) {
      now += ms;
    },
  };
}

/** Lets everything that is ready run. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

async function entered(promise: Promise<Leave | null>): Promise<Leave> {
  const leave = await promise;
  assert.ok(leave !== null);
  return leave;
}

/** The seconds after which to come again, where it is refused. */
async function refused(promise: Promise<unknown>): Promise<number> {
  const error = await promise.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof SallyportError && error.code === 'overloaded', String(error));
  return error.retryAfter ?? 0;
}

const isOpen = async (promise: Promise<unknown>) => (await Promise.race([promise, settle()])) === undefined;

test('no more are inside than there are places', async () => {
  const { enter } = made({ places: 2, waiting: 10 });
  const first = await entered(enter('a'));
  await entered(enter('a'));
  const waiting = enter('a');
  assert.ok(await isOpen(waiting));
  first();
  first();
  await entered(waiting);
  assert.ok(await isOpen(enter('a')), 'leaving twice frees one place');
});

test('tenants take turns, and the keys of a tenant, whoever asked first', async () => {
  const { enter } = made({ places: 1, waiting: 10 });
  let leave = await entered(enter('a'));
  const order: string[] = [];
  const ask = async (name: string): Promise<void> => {
    const next = await entered(enter(name));
    order.push(name);
    leave = next;
  };
  const asked = ['a/1', 'a/1', 'a/1', 'a/2', 'b/1', 'c/1', 'b/1'].map(ask);
  for (const _ of asked) {
    leave();
    await settle();
  }
  assert.deepEqual(order, ['a/1', 'b/1', 'c/1', 'a/2', 'b/1', 'a/1', 'a/1']);
});

test('beyond the room to wait in it is overloaded, with the time a place takes to become free', async () => {
  const { enter, pass } = made({ places: 1, waiting: 1 });
  const leave = await entered(enter('a'));
  const waiting = enter('a');
  const guess = await refused(enter('b'));
  assert.ok(guess >= 1);
  pass(60_000);
  leave();
  await waiting;
  void enter('a');
  const later = await refused(enter('b'));
  assert.ok(later > guess && later <= 60);
});

test('who is aborted leaves the line and makes room in it', async () => {
  const { enter } = made({ places: 1, waiting: 1 });
  const leave = await entered(enter('a'));
  const controller = new AbortController();
  const given = enter('b', {}, controller.signal);
  controller.abort();
  assert.equal(await given, null);
  const next = enter('c');
  leave();
  await entered(next);
  assert.equal(await enter('a', {}, AbortSignal.abort()), null);
});

test('a core is held for the first quarter of a second, or until its holder leaves', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { enter } = made({ places: 9, cores: 2, waiting: 0 });
  const places: number[] = [];
  const first = await entered(enter('a'));
  const second = await entered(enter('a'));
  const third = enter('a', { queued: (place) => places.push(place) });
  const fourth = enter('a');
  const fifth = enter('a');
  assert.ok(await isOpen(third), 'places are free, but no core is');
  first();
  first();
  await entered(third);
  assert.deepEqual(places, [0], 'who waits for a core only is not told of a line');
  assert.ok(await isOpen(fourth));
  t.mock.timers.tick(249);
  assert.ok(await isOpen(fourth));
  t.mock.timers.tick(1);
  await entered(fourth);
  await entered(fifth);
  const sixth = enter('a');
  second();
  assert.ok(await isOpen(sixth), 'its core was given back already');
});

test('whose patience is shorter than the wait before it is refused at once, and told when it would do', async () => {
  const { all, enter, refuse, pass } = made({ places: 2, waiting: 9 });
  const leave = await entered(enter('a'));
  await entered(enter('a'));
  pass(40_000);
  // Places were held for 40 s: one becomes free every 20 s.
  void enter('a');
  void enter('a');
  assert.equal(refuse('a', 60_000), null);
  assert.equal(refuse('a', 39_000)?.retryAfter, 41, 'who was let come is expected to wait too');
  all.notComing();
  assert.equal(await refused(enter('a', { patienceMs: 41_000 })), 19);
  const turn = enter('b', { patienceMs: 42_000 });
  leave();
  leave();
  assert.ok(await isOpen(turn), 'its tenant has its turn after one of the other');
  assert.equal(refuse('a', 0)?.code, 'overloaded');
});

test('who is refused can come again after the time it is told', async () => {
  const { enter, pass } = made({ places: 3, waiting: 6 });
  const leaves = await Promise.all(['a', 'a', 'a'].map((name) => entered(enter(name))));
  const waiting = Array.from({ length: 6 }, () => enter('a'));
  let seconds = await refused(enter('a'));
  while (seconds > 0) {
    pass(5_000);
    seconds -= 5;
    for (const leave of leaves.splice(0)) leave();
    leaves.push(...(await Promise.all(waiting.splice(0, 3).map(entered))));
  }
  assert.equal(await isOpen(enter('a')), false, 'those before it have been served');
});

test('nobody is refused while a place is free, and nobody who was let come is forgotten', async () => {
  const { all, enter, refuse, pass } = made({ places: 2, waiting: 1 });
  assert.deepEqual([refuse('a'), refuse('a'), refuse('a')], [null, null, null]);
  assert.equal(refuse('a')?.code, 'overloaded', 'three were let come');
  all.notComing();
  assert.equal(refuse('a'), null);
  assert.equal(refuse('a')?.code, 'overloaded');
  pass(10_001);
  assert.equal(refuse('a'), null, 'they did not come');
  for (let n = 0; n < 2; n += 1) await entered(enter('a'));
  assert.equal(all.free, 0);
  assert.equal(refuse('a'), null);
  assert.equal(refuse('a')?.code, 'overloaded');
});

test('whoever waits is told its place, once a second when it has changed', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { enter } = made({ places: 1, waiting: 9 });
  const told: string[] = [];
  const ask = (name: string, signal = never) =>
    enter(name, { queued: (place) => told.push(`${name} ${place}`) }, signal);
  const news = () => told.splice(0);
  const leave = await entered(ask('in'));
  assert.deepEqual(news(), ['in 0']);
  const controller = new AbortController();
  const gone = ask('a/1', controller.signal);
  const second = ask('a/2');
  void ask('b/1');
  assert.deepEqual(news(), ['a/1 1', 'a/2 2', 'b/1 2']);
  t.mock.timers.tick(999);
  assert.deepEqual(news(), []);
  t.mock.timers.tick(1);
  assert.deepEqual(news(), ['a/2 3']);
  t.mock.timers.tick(60_000);
  assert.deepEqual(news(), [], 'nothing has changed');
  controller.abort();
  assert.equal(await gone, null);
  leave();
  await entered(second);
  assert.deepEqual(news(), ['a/2 0']);
  t.mock.timers.tick(1_000);
  assert.deepEqual(news(), ['b/1 1']);
});

test('a flood of one does not keep others out, who are served in their turn', async () => {
  const { enter } = made({ places: 1, waiting: 500 });
  let leave = await entered(enter('flood'));
  const order: string[] = [];
  const ask = async (name: string): Promise<void> => {
    const given = await entered(enter(name));
    order.push(name);
    leave = given;
  };
  const flood = Array.from({ length: 500 }, () => ask('flood'));
  const [last] = flood.slice(-1);
  await refused(enter('flood'));
  for (let round = 0; round < 50; round += 1) {
    const quiet = ask('quiet');
    if (round === 0) assert.ok((await refused(last ?? quiet)) >= 1, 'the newest of the flood gives way');
    for (let turn = 0; turn < 2; turn += 1) {
      leave();
      await settle();
    }
    await quiet;
    flood.push(ask('flood'));
  }
  assert.equal(order.length, 100);
  assert.deepEqual(order, Array.from({ length: 50 }, () => ['flood', 'quiet']).flat());
});
