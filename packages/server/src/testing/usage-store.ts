import { deepStrictEqual } from 'node:assert/strict';
import type { ModelCall, TurnRef, UsageStore } from '../engine/ports.ts';
import { declare, type MakeStore, type Promises } from './contract.ts';

/** What every `UsageStore` promises. */
export function usageStoreContract(makeStore: MakeStore<UsageStore>): void {
  declare('usage store', promises, makeStore);
}

const ref: TurnRef = { tenant: 'default', conversation: 'c', turn: 't', epoch: 1 };

const aCall = (id: string, of: TurnRef = ref, at = 1_700_000_000_000): ModelCall => ({
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

const promises: Promises<UsageStore> = {
  'the calls of a turn come back as they were, oldest first': async (store) => {
    const calls = [
      aCall('b', ref, 1_700_000_000_000),
      { ...aCall('a', ref, 1_700_000_000_001), costUsd: null, status: 0 },
      { ...aCall('c', ref, 1_700_000_000_002), costUsd: 0 },
    ];
    for (const call of calls.toReversed()) await store.record(call);
    deepStrictEqual(await store.ofTurn(ref), calls);
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
