import { deepStrictEqual, ok, rejects, strictEqual } from 'node:assert/strict';
import { chainStart, verifyChain } from '../engine/audit-chain.ts';
import { StaleEpochError, type AuditEntry, type AuditRow, type AuditStore } from '../engine/ports.ts';
import { anEntry, auditSubjects, unfitEntry } from './audit-entries.ts';
import { declare, type ConversationStores, type MakeStore, type Promises } from './contract.ts';
import { aText, aToolStart, anAccept, anApproval, anEnd } from './turns.ts';

type Stores = ConversationStores & { readonly audit: AuditStore };

/** What every `AuditStore` promises, and what the stores of the same database promise about it. */
export function auditStoreContract(makeStore: MakeStore<Stores>): void {
  declare('audit store', { ...log, ...together }, makeStore);
}

const at = 1_700_000_001_000;

const all = ({ audit }: Pick<Stores, 'audit'>) => audit.read(null, 0, 1_000_000);

const subjects = ({ audit }: Pick<Stores, 'audit'>) => auditSubjects(audit);

const unprintable = (): AuditEntry => {
  const details: Record<string, unknown> = {};
  details['self'] = details;
  return { ...anEntry('unprintable'), details: details as AuditEntry['details'] };
};

const bare = ({ seq: _seq, hash: _hash, ...entry }: AuditRow): AuditEntry => entry;

const awkward: readonly AuditEntry[] = [
  { ...anEntry('no reference'), ref: null, details: {} },
  { ...anEntry(''), subject: null, actor: 'service' },
  { ...anEntry('quote \' " \\, line \u2028, bidi \u202e, emoji 👩‍👩‍👧, é and e\u0301') },
  { ...anEntry('numbers'), details: { a: 0, b: -0.5, c: 1e21, d: 2 ** 53, e: 1e-7, f: false, 10: 'x', 9: 'y' } },
  { ...anEntry('half a pair'), details: { '\ud83d': 'half \ud800 and nul \u0000' } },
  { ...anEntry('names'), details: JSON.parse('{"__proto__":"a","constructor":"b"}') as AuditEntry['details'] },
];

const log: Promises<Stores> = {
  'lines come back as they were, in order, chained from the first place on': async (stores) => {
    await stores.audit.append([anEntry('a'), anEntry('b', 'other')]);
    await stores.audit.append([]);
    await stores.audit.append(awkward);
    const rows = await all(stores);
    deepStrictEqual(rows.map(bare), [anEntry('a'), anEntry('b', 'other'), ...awkward]);
    deepStrictEqual(
      rows.map(({ seq }) => seq),
      rows.map((_, index) => index + 1),
    );
    strictEqual(verifyChain(rows, chainStart), null);
    ok(rows.every(({ hash }) => /^[0-9a-f]{64}$/u.test(hash)));
  },

  'text that is no Unicode, and more of a reference than is kept, still chain': async (stores) => {
    const ref = { tenant: 'default', conversation: 'c \ud800', turn: 't \udc00', epoch: 7 };
    await stores.audit.append([{ ...anEntry('half \ud800'), actor: '\udc00', ref }, anEntry('b')]);
    deepStrictEqual(await subjects(stores), ['half \ufffd', 'b']);
    deepStrictEqual((await all(stores))[0]?.ref, { conversation: 'c \ufffd', turn: 't \ufffd' });
  },

  'the last place is that of the last line of any tenant': async (stores) => {
    strictEqual(await stores.audit.last(), 0);
    await stores.audit.append([anEntry('a'), anEntry('b', 'other')]);
    strictEqual(await stores.audit.last(), 2);
  },

  'a thousand appends at once chain without a gap, those of one append together': async (stores) => {
    const names = Array.from({ length: 1000 }, (_, index) => String(index));
    await Promise.all(
      names.map((name, index) =>
        stores.audit.append(index % 10 === 0 ? [anEntry(name), anEntry(`${name} too`)] : [anEntry(name)]),
      ),
    );
    const found = await subjects(stores);
    const expected = names.flatMap((name, index) => (index % 10 === 0 ? [name, `${name} too`] : [name]));
    strictEqual(found.length, expected.length);
    deepStrictEqual(new Set(found), new Set(expected));
    for (const name of names.filter((_, index) => index % 10 === 0)) {
      strictEqual(found[found.indexOf(name) + 1], `${name} too`);
    }
  },

  'more lines than one statement holds are appended at once': async (stores) => {
    const names = Array.from({ length: 2501 }, (_, index) => String(index));
    await stores.audit.append(names.map((name) => anEntry(name)));
    deepStrictEqual(await subjects(stores), names);
  },

  'an append that fails leaves no line and no gap': async (stores) => {
    await stores.audit.append([anEntry('a')]);
    await rejects(stores.audit.append([anEntry('x'), unfitEntry]));
    await rejects(stores.audit.append([anEntry('y'), unprintable()]));
    const [, ...done] = await Promise.allSettled([
      stores.audit.append([anEntry('z'), unfitEntry]),
      stores.audit.append([anEntry('b')]),
    ]);
    deepStrictEqual(
      done.map(({ status }) => status),
      ['fulfilled'],
    );
    deepStrictEqual(await subjects(stores), ['a', 'b']);
  },

  'pages follow one another, of all tenants or of one': async (stores) => {
    const names = Array.from({ length: 20 }, (_, index) => String(index));
    await stores.audit.append(names.map((name, index) => anEntry(name, index % 3 === 0 ? 'other' : 'default')));
    for (const tenant of [null, 'default', 'other']) {
      const found: AuditRow[] = [];
      for (;;) {
        const page = await stores.audit.read(tenant, found.at(-1)?.seq ?? 0, 4);
        ok(page.length <= 4);
        if (tenant === null) strictEqual(verifyChain(page, found.at(-1) ?? chainStart), null);
        found.push(...page);
        if (page.length < 4) break;
      }
      deepStrictEqual(
        found,
        (await all(stores)).filter((row) => tenant === null || row.tenant === tenant),
      );
    }
    strictEqual((await stores.audit.read('other', 0, 100)).length, 7);
    deepStrictEqual(await stores.audit.read('nobody', 0, 100), []);
    deepStrictEqual(await stores.audit.read(null, 20, 100), []);
  },
};

const together: Promises<Stores> = {
  'events and the lines about them are stored together': async (stores) => {
    const { ref } = await stores.turns.accept(anAccept('c'));
    const [event] = await stores.turns.append(ref, at, [aToolStart({ a: 1 })], undefined, [anEntry('a')]);
    await stores.turns.append(ref, at, [], undefined, [anEntry('b'), anEntry('c')]);
    await stores.turns.append(ref, at, [aText('no line')], 'waiting');
    strictEqual(event?.seq, 1);
    deepStrictEqual(await subjects(stores), ['a', 'b', 'c']);
    strictEqual((await stores.turns.read('default', 'c', 0, 10)).length, 2);
  },

  'a line that cannot be stored leaves no event and no state, and an event that cannot no line': async (stores) => {
    const { ref } = await stores.turns.accept(anAccept('c'));
    await stores.turns.begin(ref, at);
    for (const line of [unfitEntry, unprintable()]) {
      await rejects(stores.turns.append(ref, at, [aToolStart({})], 'waiting', [anEntry('x'), line]));
    }
    strictEqual((await stores.turns.get('default', ref.turn))?.state, 'running');
    const stale = { ...ref, epoch: ref.epoch + 1 };
    await rejects(stores.turns.append(stale, at, [aToolStart({})], undefined, [anEntry('x')]), StaleEpochError);
    await rejects(stores.turns.append(stale, at, [], undefined, [anEntry('x')]), StaleEpochError);
    const { details } = unprintable();
    await rejects(stores.turns.append(ref, at, [aToolStart(details)], undefined, [anEntry('x')]));
    deepStrictEqual(await stores.turns.read('default', 'c', 0, 10), []);
    const [event] = await stores.turns.append(ref, at, [aText('a')], undefined, [anEntry('a')]);
    strictEqual(event?.seq, 1);
    deepStrictEqual(await subjects(stores), ['a']);
  },

  'appends of turns, decisions and lines at once make one chain': async (stores) => {
    const { turns, approvals, audit } = stores;
    const names = Array.from({ length: 20 }, (_, index) => String(index));
    const refs = await Promise.all(names.map(async (name) => (await turns.accept(anAccept(name))).ref));
    for (const [index, ref] of refs.entries()) await approvals.request(ref, ...anApproval(ref, String(index)));
    await Promise.all(
      refs.flatMap((ref, index) => [
        turns.append(ref, at, [aText('a')], undefined, [anEntry(`turn ${index}`), anEntry(`again ${index}`)]),
        approvals.decide('default', `approval ${index}`, denied, anEntry(`decision ${index}`)),
        audit.append([anEntry(`line ${index}`)]),
      ]),
    );
    const kinds = ['turn', 'again', 'decision', 'line'];
    const expected = names.flatMap((name) => kinds.map((kind) => `${kind} ${name}`));
    const found = await subjects(stores);
    strictEqual(found.length, expected.length);
    deepStrictEqual(new Set(found), new Set(expected));
  },

  'a decision has its line, and what decides nothing has none': async (stores) => {
    const { turns, approvals } = stores;
    const { ref } = await turns.accept(anAccept('c'));
    const [approval, event] = anApproval(ref, 'one');
    await approvals.request(ref, approval, event);
    await rejects(approvals.decide('default', approval.id, denied, unfitEntry));
    strictEqual((await approvals.get('default', approval.id))?.status, 'pending');
    const tries = ['a', 'b', 'c'].map((name) => approvals.decide('default', approval.id, denied, anEntry(name)));
    strictEqual((await Promise.all(tries)).filter((decided) => decided !== null).length, 1);
    strictEqual(await approvals.decide('other', approval.id, denied, anEntry('d')), null);
    strictEqual(await approvals.decide('default', 'unknown', denied, anEntry('e')), null);
    strictEqual((await subjects(stores)).length, 1);
  },

  'what was done stays told when the conversation is deleted': async (stores) => {
    const { ref } = await stores.turns.accept(anAccept('c'));
    await stores.turns.append(ref, at, [aText('a')], undefined, [anEntry('a')]);
    await stores.turns.finish(ref, anEnd);
    const before = await all(stores);
    strictEqual(await stores.conversations.delete('default', 'c'), true);
    deepStrictEqual(await all(stores), before);
  },
};

const denied = { status: 'denied', at, by: 'key-1', decision: { message: null, input: null, rule: null } } as const;
