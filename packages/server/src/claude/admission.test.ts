import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SallyportError } from '../engine/errors.ts';
import { createPlaces, type Leave } from './admission.ts';

const never = new AbortController().signal;

/** Places, and a clock that moves when it is told to. */
function made(count: number, waiting: number) {
  let now = 0;
  const clock = { now: () => now, monotonic: () => now };
  return {
    all: createPlaces({ places: count, waiting, clock }),
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

test('no more are inside than there are places', async () => {
  const { all } = made(2, 10);
  const first = await entered(all.enter('a', never));
  await entered(all.enter('a', never));
  const waiting = all.enter('a', never);
  assert.equal(await Promise.race([waiting, settle()]), undefined);
  first();
  first();
  await entered(waiting);
  const fourth = all.enter('a', never).then(() => 'in');
  assert.equal(await Promise.race([fourth, settle()]), undefined, 'leaving twice frees one place');
});

test('tenants take turns, whoever asked first', async () => {
  const { all } = made(1, 10);
  let leave = await entered(all.enter('a', never));
  const order: string[] = [];
  const ask = async (tenant: string, name: string): Promise<void> => {
    const next = await entered(all.enter(tenant, never));
    order.push(name);
    leave = next;
  };
  const asked = [ask('a', 'a1'), ask('a', 'a2'), ask('a', 'a3'), ask('b', 'b1'), ask('c', 'c1'), ask('b', 'b2')];
  for (const _ of asked) {
    leave();
    await settle();
  }
  assert.deepEqual(order, ['a1', 'b1', 'c1', 'a2', 'b2', 'a3']);
});

test('beyond the queue it is overloaded, with the time a place takes to become free', async () => {
  const { all, pass } = made(1, 1);
  const leave = await entered(all.enter('a', never));
  const waiting = all.enter('a', never);
  const refused = async () => {
    const error = await all.enter('b', never).catch((thrown: unknown) => thrown);
    assert.ok(error instanceof SallyportError);
    assert.equal(error.code, 'overloaded');
    return error.retryAfter ?? 0;
  };
  const guess = await refused();
  assert.ok(guess >= 1);
  pass(60_000);
  leave();
  await waiting;
  void all.enter('a', never);
  const later = await refused();
  assert.ok(later > guess && later <= 60);
});

test('who is aborted leaves the queue and makes room in it', async () => {
  const { all } = made(1, 1);
  const leave = await entered(all.enter('a', never));
  const controller = new AbortController();
  const given = all.enter('b', controller.signal);
  controller.abort();
  assert.equal(await given, null);
  const next = all.enter('c', never);
  leave();
  await entered(next);
  assert.equal(await all.enter('a', AbortSignal.abort()), null);
});
