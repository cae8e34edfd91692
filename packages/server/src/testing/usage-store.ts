import { deepStrictEqual } from 'node:assert/strict';
import type { DayUsage, ModelCall, TurnRef, UsageStore } from '../engine/ports.ts';
import { declare, type MakeStore, type Promises } from './contract.ts';

/** What every `UsageStore` promises. */
export function usageStoreContract(makeStore: MakeStore<UsageStore>): void {
  declare('usage store', { ...calls, ...days }, makeStore);
}

const ref: TurnRef = { tenant: 'default', conversation: 'c', turn: 't', epoch: 1 };

/** A call of the model. */
export const aCall = (id: string, of: TurnRef = ref, at = 1_700_000_000_000): ModelCall => ({
  id,
  ref: of,
  key: 'key-1',
  at,
  model: 'some-model',
  usage: { input_tokens: 1, output_tokens: 2, cache_read_tokens: 3, cache_write_tokens: 4 },
  costUsd: 0.000123456789,
  status: 200,
  durationMs: 1234,
});

const calls: Promises<UsageStore> = {
  'the calls of a turn come back as they were, oldest first': async (store) => {
    const kept = [
      aCall('b', ref, 1_700_000_000_000),
      { ...aCall('a', ref, 1_700_000_000_001), costUsd: null, status: 0 },
      { ...aCall('c', ref, 1_700_000_000_002), costUsd: 0 },
    ];
    for (const call of kept.toReversed()) await store.record(call);
    deepStrictEqual(await store.ofTurn(ref), kept);
  },

  'a call that is recorded twice counts once': async (store) => {
    await store.record(aCall('a'));
    await store.record(aCall('a'));
    deepStrictEqual(await store.ofTurn(ref), [aCall('a')]);
  },

  'a turn that was taken over keeps what was spent before and after': async (store) => {
    const later = { ...ref, epoch: 2 };
    await store.record(aCall('b', later, 1_700_000_000_001));
    await store.record(aCall('a', ref));
    deepStrictEqual(await store.ofTurn(later), [aCall('a'), aCall('b', later, 1_700_000_000_001)]);
  },

  'a conversation is the sum of its calls, those without a price counting their tokens': async (store) => {
    await store.record(aCall('a'));
    await store.record({ ...aCall('b', { ...ref, turn: 'next' }), costUsd: null });
    await store.record(aCall('c', { ...ref, conversation: 'other' }));
    await store.record(aCall('d', { ...ref, tenant: 'other' }));
    deepStrictEqual(await store.ofConversation('default', 'c'), { tokens: 20, costUsd: 0.000123456789 });
    deepStrictEqual(await store.ofConversation('default', 'nobody'), { tokens: 0, costUsd: 0 });
  },

  'turns of other tenants and conversations are apart': async (store) => {
    const others = [
      { ...ref, tenant: 'other' },
      { ...ref, conversation: 'other' },
      { ...ref, turn: 'other' },
    ];
    for (const of of [ref, ...others]) await store.record(aCall(`call of ${JSON.stringify(of)}`, of));
    await store.record(aCall('same id', ref));
    await store.record(aCall('same id', { ...ref, tenant: 'other' }));
    deepStrictEqual((await store.ofTurn(ref)).length, 2);
    deepStrictEqual((await store.ofTurn({ ...ref, tenant: 'other' })).length, 2);
    for (const of of others.slice(1)) deepStrictEqual((await store.ofTurn(of)).length, 1);
    deepStrictEqual(await store.ofTurn({ ...ref, tenant: 'nobody' }), []);
  },

  'a duration with fractions is kept in whole milliseconds': async (store) => {
    await store.record({ ...aCall('a'), durationMs: 1233.7 });
    deepStrictEqual(await store.ofTurn(ref), [aCall('a')]);
  },
};

const everyDay = { tenant: null, key: null, from: '1970-01-01', to: '9999-12-31' };

/** A day with one priced call. */
const aDay = (part: Partial<DayUsage> = {}): DayUsage => ({
  tenant: 'default',
  key: 'key-1',
  day: '2023-11-14',
  model: 'some-model',
  calls: 1,
  usage: { input_tokens: 1, output_tokens: 2, cache_read_tokens: 3, cache_write_tokens: 4 },
  costUsd: 0.000123456789,
  unpricedCalls: 0,
  ...part,
});

const days: Promises<UsageStore> = {
  'a day is the sum of its calls, of whatever turn, and tells how many have no price': async (store) => {
    deepStrictEqual(await store.byDay(everyDay), []);
    await store.record({ ...aCall('a'), costUsd: 0.5 });
    await store.record({ ...aCall('b', { ...ref, conversation: 'other', turn: 'next' }), costUsd: 0.25 });
    await store.record({ ...aCall('c'), costUsd: null, status: 0 });
    await store.record({ ...aCall('d'), costUsd: 0 });
    const usage = { input_tokens: 4, output_tokens: 8, cache_read_tokens: 12, cache_write_tokens: 16 };
    deepStrictEqual(await store.byDay(everyDay), [aDay({ calls: 4, usage, costUsd: 0.75, unpricedCalls: 1 })]);
  },

  'of one call that is recorded twenty times at once, whatever it says later, the day has one': async (store) => {
    await Promise.all(Array.from({ length: 20 }, () => store.record(aCall('a'))));
    await store.record({ ...aCall('a'), key: 'key-2', model: 'another', costUsd: 5 });
    await store.record(aCall('a', ref, 1_800_000_000_000));
    deepStrictEqual(await store.byDay(everyDay), [aDay()]);
    await store.record(aCall('a', { ...ref, tenant: 'other' }));
    deepStrictEqual(await store.byDay(everyDay), [aDay(), aDay({ tenant: 'other' })]);
  },

  'a day begins and ends at midnight of UTC': async (store) => {
    const times = [
      '2023-12-31T23:59:59.999Z',
      '2024-01-01T00:00:00.000Z',
      '2024-02-28T23:59:59.999Z',
      '2024-02-29T00:00:00.000Z',
      '2024-02-29T23:59:59.999Z',
      '2024-03-01T00:00:00.000Z',
      // The clocks of Europe change in between.
      '2024-03-31T00:30:00.000Z',
      '2024-03-31T23:30:00.000Z',
    ];
    for (const time of times) await store.record(aCall(time, ref, Date.parse(time)));
    const found = await store.byDay(everyDay);
    deepStrictEqual(
      found.map(({ day, calls: count }) => [day, count]),
      [
        ['2024-03-31', 2],
        ['2024-03-01', 1],
        ['2024-02-29', 2],
        ['2024-02-28', 1],
        ['2024-01-01', 1],
        ['2023-12-31', 1],
      ],
    );
  },

  'days come newest first, then by tenant, key and model, those that were asked for': async (store) => {
    const made: DayUsage[] = [];
    for (const day of ['2024-03-02', '2024-03-01']) {
      for (const tenant of ['default', 'other']) {
        for (const key of ['key-1', 'key-2']) {
          for (const model of ['m1', 'm2']) made.push(aDay({ tenant, key, day, model }));
        }
      }
    }
    for (const { tenant, key, day, model } of made.toReversed()) {
      const call = aCall([day, key, model].join(), { ...ref, tenant }, Date.parse(day));
      await store.record({ ...call, key, model });
    }
    const asked = [
      everyDay,
      { ...everyDay, tenant: 'other' },
      { ...everyDay, key: 'key-1' },
      { ...everyDay, tenant: 'default', key: 'key-2' },
      { ...everyDay, from: '2024-03-02' },
      { ...everyDay, to: '2024-03-01' },
      { ...everyDay, from: '2024-03-01', to: '2024-03-02', tenant: 'other' },
      { ...everyDay, from: '2024-03-02', to: '2024-03-01' },
      { ...everyDay, tenant: 'nobody' },
    ];
    for (const { tenant, key, from, to } of asked) {
      const expected = made
        .filter((one) => (tenant === null || one.tenant === tenant) && (key === null || one.key === key))
        .filter(({ day }) => from <= day && day <= to);
      deepStrictEqual(await store.byDay({ tenant, key, from, to }), expected);
    }
  },
};
