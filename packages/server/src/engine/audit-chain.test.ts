import { deepStrictEqual, notStrictEqual, strictEqual } from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { auditHash, chainStart, verifyChain, type ChainLink } from './audit-chain.ts';
import type { AuditEntry, AuditRow } from './ports.ts';

const entry: AuditEntry = {
  at: 1_700_000_000_000,
  tenant: 'default',
  actor: 'key-1',
  action: 'tool.start',
  ref: { conversation: 'c', turn: 't' },
  subject: 'call-1',
  details: { tool: 'Read', input: 'a hash', batch: 1 },
};

function chained(entries: readonly AuditEntry[], from: ChainLink = chainStart): AuditRow[] {
  let last = from;
  return entries.map((each) => {
    const line = { ...each, seq: last.seq + 1 };
    const row = { ...line, hash: auditHash(last.hash, line) };
    last = row;
    return row;
  });
}

const ten = (): AuditRow[] => chained(Array.from({ length: 10 }, (_, index) => ({ ...entry, subject: `${index}` })));

const anEntry: fc.Arbitrary<AuditEntry> = fc.record({
  at: fc.nat(),
  tenant: fc.string(),
  actor: fc.string({ unit: 'grapheme' }),
  action: fc.string(),
  ref: fc.option(fc.record({ conversation: fc.string(), turn: fc.string() })),
  subject: fc.option(fc.string()),
  details: fc.dictionary(fc.string(), fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.constant(null))),
});

test('a hash is that of canonical JSON over the hash before, the same in every version', () => {
  const line = { ...entry, seq: 1 };
  const json =
    `["${'0'.repeat(64)}",{"action":"tool.start","actor":"key-1","at":1700000000000,` +
    '"details":{"batch":1,"input":"a hash","tool":"Read"},"ref":{"conversation":"c","turn":"t"},"seq":1,' +
    '"subject":"call-1","tenant":"default"}]';
  strictEqual(auditHash(chainStart.hash, line), createHash('sha256').update(json).digest('hex'));
});

test('the order of keys, and what is no part of a line, do not count', () => {
  const hash = auditHash(chainStart.hash, { ...entry, seq: 1 });
  const details = { batch: 1, input: 'a hash', tool: 'Read' };
  const ref = { epoch: 7, turn: 't', tenant: 'default', conversation: 'c' };
  const other: AuditRow = { hash: 'x', seq: 1, ...entry, details, ref };
  strictEqual(auditHash(chainStart.hash, other), hash);
});

test('any chain fits, whole and in pages, also when it went through JSON', () => {
  fc.assert(
    fc.property(fc.array(anEntry, { maxLength: 12 }), fc.nat(12), (entries, split) => {
      const rows = JSON.parse(JSON.stringify(chained(entries))) as AuditRow[];
      strictEqual(verifyChain(rows, chainStart), null);
      const first = rows.slice(0, split);
      strictEqual(verifyChain(rows.slice(split), first.at(-1) ?? chainStart), null);
    }),
  );
});

const changes: Readonly<Record<string, Partial<AuditRow>>> = {
  at: { at: entry.at + 1 },
  tenant: { tenant: 'other' },
  actor: { actor: 'key-2' },
  action: { action: 'tool.end' },
  conversation: { ref: { conversation: 'd', turn: 't' } },
  turn: { ref: { conversation: 'c', turn: 'u' } },
  'no reference': { ref: null },
  subject: { subject: 'another' },
  'no subject': { subject: null },
  'a detail': { details: { ...entry.details, tool: 'Bash' } },
  'type of a detail': { details: { ...entry.details, batch: '1' } },
  'one detail less': { details: { tool: 'Read', input: 'a hash' } },
  'one detail more': { details: { ...entry.details, more: null } },
  hash: { hash: 'f'.repeat(64) },
  'hash in other letters': { hash: ten()[4]?.hash.toUpperCase() ?? '' },
  seq: { seq: 6 },
};

test('a changed part of a line is found at its place', () => {
  for (const [name, change] of Object.entries(changes)) {
    for (const index of [0, 4, 9])
      strictEqual(verifyChain(ten().with(index, { ...ten()[index]!, ...change }), chainStart), index + 1, name);
  }
});

test('a line changed together with its hash is found at the next place', () => {
  const rows = ten();
  const changed = { ...rows[4]!, actor: 'key-2' };
  const hash = auditHash(rows[3]!.hash, changed);
  notStrictEqual(hash, rows[4]!.hash);
  strictEqual(verifyChain(rows.with(4, { ...changed, hash }), chainStart), 6);
});

test('a removed, added or moved line is found at its place', () => {
  const rows = ten();
  for (const place of [1, 5, 9]) {
    const index = place - 1;
    strictEqual(verifyChain(rows.toSpliced(index, 1), chainStart), place, 'removed');
    strictEqual(verifyChain(rows.toSpliced(index, 0, rows[index]!), chainStart), place + 1, 'added');
    const [one, two] = [rows[index]!, rows[index + 1]!];
    strictEqual(verifyChain(rows.toSpliced(index, 2, two, one), chainStart), place, 'swapped');
    const renumbered = [
      { ...two, seq: one.seq },
      { ...one, seq: two.seq },
    ];
    strictEqual(verifyChain(rows.toSpliced(index, 2, ...renumbered), chainStart), place, 'swapped with their places');
    const closed = rows.toSpliced(index, 1).map((row, at) => ({ ...row, seq: at + 1 }));
    strictEqual(verifyChain(closed, chainStart), place, 'removed, and the gap closed');
  }
});

test('a place that is left out is found, even when the lines after it chain', () => {
  const before = ten().slice(0, 4);
  const { hash } = before[3]!;
  strictEqual(verifyChain([...before, ...chained([entry], { seq: 4, hash })], chainStart), null);
  strictEqual(verifyChain([...before, ...chained([entry], { seq: 5, hash })], chainStart), 5);
});

test('a page that starts elsewhere than after the line it is checked from does not fit', () => {
  const rows = ten();
  strictEqual(verifyChain(rows.slice(5), rows[3]!), 5);
  strictEqual(verifyChain(rows.slice(5), { ...rows[4]!, hash: rows[3]!.hash }), 6);
  deepStrictEqual([verifyChain([], rows[9]!), verifyChain(rows, rows[9]!)], [null, 11]);
});
