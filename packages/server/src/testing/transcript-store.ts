import { deepStrictEqual, strictEqual } from 'node:assert/strict';
import type { TranscriptEntry, TranscriptKey, TranscriptStore } from '../engine/ports.ts';
import { awkwardJson, declare, type MakeStore, type Promises } from './contract.ts';

/** What every `TranscriptStore` promises. */
export function transcriptStoreContract(makeStore: MakeStore<TranscriptStore>): void {
  declare('transcript store', promises, makeStore);
}

const main: TranscriptKey = { tenant: 'default', session: 's', subpath: '' };
const side: TranscriptKey = { ...main, subpath: 'subagents/agent-1' };

const promises: Promises<TranscriptStore> = {
  'a transcript without entries is null': async (store) => {
    strictEqual(await store.load(main), null);
    await store.append(main, []);
    strictEqual(await store.load(main), null);
    strictEqual(await store.has(main.tenant, main.session), false);
    await store.append({ ...main, subpath: 'subagents/a' }, [{ n: 1 }]);
    strictEqual(await store.has(main.tenant, main.session), false);
    await store.append(main, [{ n: 1 }]);
    strictEqual(await store.has(main.tenant, main.session), true);
    strictEqual(await store.has('other', main.session), false);
  },

  'entries come back in the order of append, those without a uuid too': async (store) => {
    const entries: TranscriptEntry[] = [{ n: 1, uuid: 'z' }, { n: 1 }, { n: 1 }, { n: 2, uuid: 'a' }, { uuid: 5 }];
    await store.append(main, entries.slice(0, 2));
    await store.append(main, entries.slice(2));
    deepStrictEqual(await store.load(main), entries);
  },

  'an entry with a known uuid is left out, and the others of its batch are kept': async (store) => {
    await store.append(main, [
      { n: 1, uuid: 'a' },
      { n: 2, uuid: 'b' },
    ]);
    await store.append(main, [
      { n: 2, uuid: 'b' },
      { n: 3, uuid: 'c' },
      { n: 3, uuid: 'c' },
      { n: 1, uuid: 'a' },
      { n: 4 },
    ]);
    await store.append(main, [{ n: 5, uuid: 'd' }]);
    deepStrictEqual(
      (await store.load(main))?.map((entry) => entry['n']),
      [1, 2, 3, 4, 5],
    );
  },

  'appends at once are all kept, each batch in one piece and in the order of the calls': async (store) => {
    const batches = Array.from({ length: 30 }, (_, batch) => [
      { batch, part: 1 },
      { batch, part: 2 },
    ]);
    await Promise.all(batches.map((batch) => store.append(main, batch)));
    deepStrictEqual(await store.load(main), batches.flat());
  },

  'more entries than one statement holds are appended at once': async (store) => {
    const entries = Array.from({ length: 11_000 }, (_, n) => ({ n, uuid: `u${n}` }));
    await store.append(main, entries);
    await store.append(main, entries);
    deepStrictEqual(await store.load(main), entries);
  },

  'tenants, sessions and subpaths are apart, with equal uuids too': async (store) => {
    const keys = [main, side, { ...main, session: 't' }, { ...main, tenant: 'other' }, { ...side, tenant: 'other' }];
    for (const [n, key] of keys.entries()) await store.append(key, [{ n, uuid: 'a' }]);
    for (const [n, key] of keys.entries()) deepStrictEqual(await store.load(key), [{ n, uuid: 'a' }]);
    deepStrictEqual(await store.subpaths('default', 's'), ['subagents/agent-1']);
    deepStrictEqual(await store.subpaths('default', 't'), []);
    deepStrictEqual(await store.subpaths('nobody', 's'), []);
  },

  'deleting takes a session with its sub-transcripts and nothing else': async (store) => {
    const kept = [
      { ...main, session: 't' },
      { ...main, tenant: 'other' },
    ];
    for (const key of [main, side, ...kept]) await store.append(key, [{ n: 1, uuid: 'a' }]);
    await store.delete('default', 's');
    await store.delete('default', 'unknown');
    strictEqual(await store.load(main), null);
    strictEqual(await store.load(side), null);
    deepStrictEqual(await store.subpaths('default', 's'), []);
    for (const key of kept) deepStrictEqual(await store.load(key), [{ n: 1, uuid: 'a' }]);
    await store.append(main, [{ n: 2, uuid: 'a' }]);
    deepStrictEqual(await store.load(main), [{ n: 2, uuid: 'a' }]);
  },

  'awkward JSON comes back as it was': async (store) => {
    await store.append(main, awkwardJson);
    deepStrictEqual(await store.load(main), awkwardJson);
    strictEqual(({} as Record<string, unknown>)['polluted'], undefined);
  },
};
