import { deepStrictEqual, rejects, strictEqual } from 'node:assert/strict';
import type { TicketStore } from '../engine/ports.ts';
import { declare, type MakeStore, type Promises } from './contract.ts';

/** What every `TicketStore` promises. */
export function ticketStoreContract(makeStore: MakeStore<TicketStore>): void {
  declare('ticket store', promises, makeStore);
}

const ticket = { tenant: 'default', key: 'key-1', secretHash: 'hash-1', expiresAt: 1000 };

const promises: Promises<TicketStore> = {
  'of fifty that take a ticket at once, one has it': async (store) => {
    await store.put('a', ticket);
    const takes = await Promise.all(Array.from({ length: 50 }, () => store.take('a', 1)));
    const taken = takes.filter((one) => one !== null);
    deepStrictEqual(taken, [{ tenant: 'default', key: 'key-1', secretHash: 'hash-1' }]);
  },

  'a ticket is good until its time has passed': async (store) => {
    await store.put('a', ticket);
    await store.put('b', ticket);
    deepStrictEqual(await store.take('a', 999), { tenant: 'default', key: 'key-1', secretHash: 'hash-1' });
    strictEqual(await store.take('b', 1000), null);
    strictEqual(await store.take('unknown', 1), null);
  },

  'one hash stands for one ticket, also between tenants': async (store) => {
    await store.put('a', ticket);
    await rejects(store.put('a', { ...ticket, tenant: 'other' }));
    await store.put('b', { ...ticket, tenant: 'other' });
    deepStrictEqual(await store.take('a', 1), { tenant: 'default', key: 'key-1', secretHash: 'hash-1' });
    deepStrictEqual(await store.take('b', 1), { tenant: 'other', key: 'key-1', secretHash: 'hash-1' });
  },

  'only expired tickets are swept': async (store) => {
    await store.put('old', ticket);
    await store.put('new', { ...ticket, expiresAt: 1001 });
    await store.sweep(1000);
    strictEqual(await store.take('old', 1), null);
    deepStrictEqual(await store.take('new', 1), { tenant: 'default', key: 'key-1', secretHash: 'hash-1' });
  },
};
