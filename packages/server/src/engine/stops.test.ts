import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from './clock.ts';
import type { Stop, StopStore } from './ports.ts';
import { stopInfo, Stops } from './stops.ts';

const logger = { info() {}, warn() {}, error() {} };
const clock = systemClock;
const stop = (id: string, parts: Partial<Stop> = {}): Stop => ({
  id,
  tenant: null,
  key: null,
  conversation: null,
  reason: '',
  createdAt: 0,
  createdBy: 'master',
  ...parts,
});
const whose = { tenant: 't', key: 'k', conversation: 'c' };

function storeOf(list: () => Promise<Stop[]>): StopStore {
  return { list, add: async () => undefined, lift: async () => null };
}

test('a stop holds for exactly what it names', async () => {
  const cases: [Partial<Stop>, boolean][] = [
    [{}, true],
    [{ tenant: 't' }, true],
    [{ tenant: 'u' }, false],
    [{ tenant: 't', key: 'k' }, true],
    [{ tenant: 't', key: 'l' }, false],
    [{ tenant: 'u', key: 'k' }, false],
    [{ tenant: 't', conversation: 'c' }, true],
    [{ tenant: 't', conversation: 'd' }, false],
    [{ tenant: 'u', conversation: 'c' }, false],
  ];
  for (const [parts, holds] of cases) {
    const stops = new Stops({ stops: storeOf(async () => [stop('s', parts)]), logger, clock });
    await stops.refresh();
    assert.equal(stops.holds(whose), holds, JSON.stringify(parts));
    const checked = stops.check(whose);
    await (holds ? assert.rejects(checked, { code: 'stopped' }) : checked);
  }
});

test('work that has no conversation yet is not that of one that is stopped, but of its key, tenant and all', async () => {
  const unnamed = { ...whose, conversation: null };
  for (const [parts, holds] of [
    [{ tenant: 't', conversation: 'c' }, false],
    [{ tenant: 't', key: 'k' }, true],
    [{}, true],
  ] as const) {
    const checked = new Stops({ stops: storeOf(async () => [stop('s', parts)]), logger, clock }).check(unnamed);
    await (holds ? assert.rejects(checked, { code: 'stopped' }) : checked);
  }
});

test('nothing is let pass that cannot be looked up', async () => {
  const stops = new Stops({ stops: storeOf(() => Promise.reject(new Error('no store'))), logger, clock });
  await assert.rejects(stops.check(whose), /no store/u);
  await assert.rejects(stops.start(), /no store/u);
});

test('an answer that comes late does not undo a later one, nor lets pass what it was asked for', async () => {
  const answers: ((stops: Stop[]) => void)[] = [];
  const stops = new Stops({ stops: storeOf(() => new Promise((resolve) => answers.push(resolve))), logger, clock });
  const early = stops.check(whose);
  const late = stops.refresh();
  answers[1]?.([]);
  await late;
  answers[0]?.([stop('s')]);
  await assert.rejects(early, { code: 'stopped' });
  assert.equal(stops.holds(whose), false);
});

test('a stop is known although another reading has always begun before one ends', async () => {
  const answers: ((stops: Stop[]) => void)[] = [];
  const stops = new Stops({ stops: storeOf(() => new Promise((resolve) => answers.push(resolve))), logger, clock });
  let told = 0;
  stops.onChange(() => (told += 1));
  const readings = [stops.refresh()];
  for (let at = 0; at < 3; at += 1) {
    readings.push(stops.refresh());
    answers[at]?.([stop('s')]);
    await readings[at];
    assert.deepEqual([stops.holds(whose), told], [true, 1]);
  }
});

test('those who listen are told of each new set, also of one that another process made, and after a failure', async () => {
  let held: Stop[] = [];
  let fails = false;
  const stops = new Stops({
    stops: storeOf(async () => {
      if (fails) throw new Error('no store');
      return held;
    }),
    logger,
    clock,
  });
  const told: boolean[] = [];
  const changed = () => new Promise<void>((resolve) => stops.onChange(resolve));
  stops.onChange(() => told.push(stops.holds(whose)));
  await stops.start();
  assert.deepEqual(told, []);
  const added = changed();
  held = [stop('s')];
  await added;
  fails = true;
  await new Promise((resolve) => setTimeout(resolve, 600));
  assert.equal(stops.holds(whose), true, 'what was known still holds');
  const lifted = changed();
  held = [];
  fails = false;
  await lifted;
  stops.close();
  assert.deepEqual(told, [true, false]);
});

test('nothing is asked any more once it is closed, also when a reading is under way', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const answers: ((stops: Stop[]) => void)[] = [];
  const stops = new Stops({ stops: storeOf(() => new Promise((resolve) => answers.push(resolve))), logger, clock });
  const started = stops.start();
  answers[0]?.([]);
  await started;
  t.mock.timers.tick(1000);
  assert.equal(answers.length, 2);
  stops.close();
  answers[1]?.([]);
  await new Promise(setImmediate);
  t.mock.timers.tick(10_000);
  assert.equal(answers.length, 2);
});

test('a stop tells its scope', () => {
  const scopes = [{}, { tenant: 't' }, { tenant: 't', key: 'k' }, { tenant: 't', conversation: 'c' }];
  assert.deepEqual(
    scopes.map((parts) => stopInfo(stop('s', parts)).scope),
    ['all', 'tenant', 'key', 'conversation'],
  );
});
