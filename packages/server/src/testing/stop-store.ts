import { deepStrictEqual, rejects, strictEqual } from 'node:assert/strict';
import type { AuditStore, Stop, StopStore } from '../engine/ports.ts';
import { anEntry, auditSubjects, unfitEntry } from './audit-entries.ts';
import { declare, type MakeStore, type Promises } from './contract.ts';

interface Stores {
  readonly stops: StopStore;
  readonly audit: AuditStore;
}

/** What every `StopStore` promises. */
export function stopStoreContract(makeStore: MakeStore<Stores>): void {
  declare('stop store', promises, makeStore);
}

/** A stop of everything, unless the part names less. */
export const aStop = (id: string, part: Partial<Stop> = {}): Stop => ({
  id,
  tenant: null,
  key: null,
  conversation: null,
  reason: 'the bill',
  createdAt: 1_700_000_000_000,
  createdBy: 'admin',
  ...part,
});

const line = anEntry('line');

const promises: Promises<Stores> = {
  'stops come back as they were, oldest first, whatever they name': async ({ stops }) => {
    deepStrictEqual(await stops.list(), []);
    const kept = [
      aStop('d', { createdAt: 1 }),
      aStop('a', { createdAt: 2, tenant: 'default', reason: '' }),
      aStop('b', { createdAt: 2, tenant: 'default', key: 'key-1' }),
      aStop('c', { createdAt: 3, tenant: 'other', conversation: 'c', reason: 'quote \' " \\ 👩‍👩‍👧' }),
      aStop('e', { createdAt: 3, tenant: 'other', key: 'k', conversation: 'c' }),
    ];
    for (const stop of kept.toReversed()) await stops.add(stop, line);
    deepStrictEqual(await stops.list(), kept);
  },

  'two stops of the same hold until both are lifted': async ({ stops }) => {
    for (const id of ['a', 'b']) await stops.add(aStop(id, { tenant: 'default' }), line);
    deepStrictEqual(await stops.lift('a', () => line), aStop('a', { tenant: 'default' }));
    deepStrictEqual(await stops.list(), [aStop('b', { tenant: 'default' })]);
    deepStrictEqual(await stops.lift('b', () => line), aStop('b', { tenant: 'default' }));
    deepStrictEqual(await stops.list(), []);
  },

  'of twenty that lift a stop at once, one does, and its line tells what it was': async ({ stops, audit }) => {
    await stops.add(aStop('a', { tenant: 'other' }), anEntry('add'));
    const lift = () => stops.lift('a', (stop) => anEntry(`lift ${stop.id} of ${stop.tenant}`));
    const lifted = await Promise.all(Array.from({ length: 20 }, lift));
    deepStrictEqual(
      lifted.filter((stop) => stop !== null),
      [aStop('a', { tenant: 'other' })],
    );
    strictEqual(await stops.lift('nobody', () => anEntry('no')), null);
    deepStrictEqual(await auditSubjects(audit), ['add', 'lift a of other']);
  },

  'an id is taken once': async ({ stops, audit }) => {
    await stops.add(aStop('a'), anEntry('add'));
    await rejects(stops.add(aStop('a', { tenant: 'other' }), anEntry('no')));
    deepStrictEqual(await stops.list(), [aStop('a')]);
    deepStrictEqual(await auditSubjects(audit), ['add']);
  },

  'nothing changes when its line cannot be stored': async ({ stops, audit }) => {
    await rejects(stops.add(aStop('a'), unfitEntry));
    deepStrictEqual(await stops.list(), []);
    await stops.add(aStop('a'), line);
    await rejects(stops.lift('a', () => unfitEntry));
    const broken = () => {
      throw new Error('no line');
    };
    await rejects(stops.lift('a', broken), /no line/);
    deepStrictEqual(await stops.list(), [aStop('a')]);
    deepStrictEqual(await auditSubjects(audit), ['line']);
  },
};
