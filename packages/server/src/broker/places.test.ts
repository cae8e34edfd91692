import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Places, WaitingLine } from './places.ts';

const never = new AbortController().signal;
const long = 3_600_000;

/** As many places as a tenant can get. */
function takeAll(places: Places, tenant: string): (() => void)[] {
  const taken: (() => void)[] = [];
  while (places.hasRoom(tenant)) taken.push(places.take(tenant));
  return taken;
}

test('a tenant alone gets four fifths of the places, all only where they are few', () => {
  for (const most of [5, 10, 40, 256]) {
    assert.equal(takeAll(new Places(most), 'a').length, Math.ceil((most * 4) / 5), `of ${most}`);
  }
  for (const most of [1, 2, 3, 4]) assert.equal(takeAll(new Places(most), 'a').length, most);
});

test('whoever comes finds a place, though those before took all they could get', () => {
  const places = new Places(256);
  for (const tenant of ['a', 'b', 'c']) {
    assert.ok(takeAll(places, tenant).length > 0, tenant);
    assert.ok(places.hasRoom('next'), `behind ${tenant}`);
  }
});

test('tenants that all want more come to hold the same, with some left', () => {
  const places = new Places(90);
  const held = { a: takeAll(places, 'a'), b: takeAll(places, 'b') };
  for (let ended = 0; ended < 500; ended++) {
    const tenant = ended % 2 === 0 ? 'a' : 'b';
    held[tenant].shift()?.();
    held[tenant].push(...takeAll(places, tenant));
  }
  assert.deepEqual([held.a.length, held.b.length], [40, 40]);
});

test('a place is given back once, and fewer places than are taken give none', () => {
  const places = new Places(2);
  const [first, second] = takeAll(places, 'a');
  first?.();
  first?.();
  assert.equal(places.taken, 1);
  places.most = 1;
  assert.equal(places.hasRoom('b'), false);
  second?.();
  assert.equal(places.hasRoom('b'), true);
});

/** A line before one place. */
function aLine() {
  const line = new WaitingLine<string>();
  const places = new Places(1);
  const served: string[] = [];
  let leave = places.take('before');
  const wait = async (tenant: string, name: string, signal = never, milliseconds = long) => {
    const tryEnter = () => {
      if (!places.hasRoom(tenant)) return null;
      leave = places.take(tenant);
      return name;
    };
    const got = await line.wait(tenant, tryEnter, signal, milliseconds);
    if (got !== null) served.push(got);
    return got;
  };
  const serve = async () => {
    leave();
    line.serve();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { line, wait, serve, served };
}

test('tenants take turns, however many calls one of them has waiting', async () => {
  const { wait, serve, served } = aLine();
  const waiting = ['a1', 'a2', 'a3', 'a4', 'b1', 'b2', 'c1'].map((name) => wait(name.slice(0, 1), name));
  for (let turn = 0; turn < waiting.length; turn++) await serve();
  await Promise.all(waiting);
  assert.deepEqual(served, ['a1', 'b1', 'c1', 'a2', 'b2', 'a3', 'a4']);
});

test('who leaves, and whose time is over, waits no longer and holds nobody up', async () => {
  const { line, wait, serve, served } = aLine();
  const leaving = new AbortController();
  const left = wait('a', 'left', leaving.signal);
  const over = wait('a', 'over', never, 1);
  const stays = wait('a', 'stays');
  leaving.abort();
  assert.deepEqual([await left, await over], [null, null]);
  assert.equal(await wait('b', 'gone', AbortSignal.abort()), null);
  await serve();
  assert.equal(await stays, 'stays');
  assert.deepEqual(served, ['stays']);
  assert.deepEqual([line.has('a'), line.has('b')], [false, false]);
});
