import { test, type TestContext } from 'node:test';
import type { ApprovalStore, ConversationStore, ImageStore, TurnStore } from '../engine/ports.ts';

/** The stores of conversations and of all that belongs to them, over one database. */
export interface ConversationStores {
  readonly conversations: ConversationStore;
  readonly turns: TurnStore;
  readonly approvals: ApprovalStore;
  readonly images: ImageStore;
}

/** Gives a new, empty store that goes with the test. */
export type MakeStore<Store> = (t: TestContext) => Promise<Store>;

/** The promises of a port by name; each is checked on an empty store of its own. */
export type Promises<Store> = Readonly<Record<string, (store: Store) => Promise<void>>>;

/** Declares one test for each promise. */
export function declare<Store>(port: string, promises: Promises<Store>, makeStore: MakeStore<Store>): void {
  for (const [promise, check] of Object.entries(promises)) {
    void test(`${port}: ${promise}`, async (t) => check(await makeStore(t)));
  }
}

/** JSON that is easily damaged on its way to a database and back. */
export const awkwardJson: readonly Readonly<Record<string, unknown>>[] = [
  JSON.parse('{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}'),
  { text: 'half a pair \ud800 and \udc00 the other', '\ud83d': 'in a name too' },
  { text: 'nul \u0000, quote \' " \\, line \u2028, bidi \u202e, emoji 👩‍👩‍👧, é and e\u0301' },
  { deep: [[[[{ a: null, b: [], c: {}, d: '' }]]]], n: [0, -0.5, 1e21, 2 ** 53, 1e-7], t: true },
  { text: 'x'.repeat(5_000_000) },
];
