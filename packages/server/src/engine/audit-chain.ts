import type { AuditEntry, AuditRow } from './ports.ts';
import { canonicalHash } from './tool-inputs.ts';

/** What a line is chained to: the place and hash of the one before it. */
export type ChainLink = Pick<AuditRow, 'seq' | 'hash'>;

/** What the first line is chained to. */
export const chainStart: ChainLink = { seq: 0, hash: '0'.repeat(64) };

/**
 * The hash that chains a line to the one before: SHA-256, in hex, of the JSON array of the previous hash and the line
 * without its own, keys sorted and no white space.
 */
export function auditHash(previousHash: string, row: AuditEntry & { readonly seq: number }): string {
  const { seq, at, tenant, actor, action, subject, details } = row;
  // Only what is stored of a reference counts.
  const ref = row.ref === null ? null : { conversation: row.ref.conversation, turn: row.ref.turn };
  return canonicalHash([previousHash, { seq, at, tenant, actor, action, ref, subject, details }]);
}

/**
 * Checks lines of all tenants, in order, that follow one that was checked (or `chainStart`). Gives the first place that
 * does not hold what was appended there, as its line was changed, removed, moved or added; null when all fit. It cannot
 * know of lines removed after the last one given, or of a whole chain made anew: compare a hash that is kept elsewhere.
 */
export function verifyChain(rows: Iterable<AuditRow>, from: ChainLink): number | null {
  let last = from;
  for (const row of rows) {
    const seq = last.seq + 1;
    if (row.seq !== seq || row.hash !== auditHash(last.hash, row)) return seq;
    last = row;
  }
  return null;
}
