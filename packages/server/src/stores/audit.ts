import type { Selectable, Transaction } from 'kysely';
import { auditHash, type ChainLink } from '../engine/audit-chain.ts';
import type { AuditEntry, AuditRow, AuditStore } from '../engine/ports.ts';
import { toJson, toText, type Database } from './database.ts';
import { rowsPerInsert } from './log.ts';
import type { AuditTable, Schema } from './schema.ts';
import { Together } from './together.ts';

/** The audit log in SQL. */
export function createAuditStore(database: Database): AuditStore {
  const together = new Together<AuditEntry>((entries) => database.write((sql) => appendAudit(sql, entries), 'audit'));
  return {
    append: (entries) => together.add(entries),
    async read(tenant, after, limit) {
      let query = database.read.selectFrom('audit').selectAll().where('seq', '>', after).orderBy('seq').limit(limit);
      if (tenant !== null) query = query.where('tenant', '=', tenant);
      return (await query.execute()).map(toAuditRow);
    },
    async last() {
      const head = await database.read.selectFrom('audit_head').select('seq').executeTakeFirstOrThrow();
      return head.seq;
    },
  };
}

/**
 * Appends lines to the audit log in the transaction of what they tell of, after its other writes: the head is locked from
 * here to the end of the transaction, and nobody who holds it waits for anything else.
 */
export async function appendAudit(sql: Transaction<Schema>, entries: readonly AuditEntry[]): Promise<void> {
  if (entries.length === 0) return;
  // Locks the head, and gives the hash of the last line with the place of the last new one.
  const head = await sql
    .updateTable('audit_head')
    .set((column) => ({ seq: column('seq', '+', entries.length) }))
    .where('id', '=', 'head')
    .returning(['seq', 'hash'])
    .executeTakeFirstOrThrow();
  let last: ChainLink = { seq: head.seq - entries.length, hash: head.hash };
  const rows = entries.map((entry) => {
    const line = { ...storable(entry), seq: last.seq + 1 };
    last = { seq: line.seq, hash: auditHash(last.hash, line) };
    return toRow({ ...line, hash: last.hash });
  });
  for (let from = 0; from < rows.length; from += rowsPerInsert) {
    await sql
      .insertInto('audit')
      .values(rows.slice(from, from + rowsPerInsert))
      .execute();
  }
  await sql.updateTable('audit_head').set({ hash: last.hash }).where('id', '=', 'head').execute();
}

/** The line as it comes back: the hash must fit what the database keeps. */
function storable(entry: AuditEntry): AuditEntry {
  const { ref, subject } = entry;
  return {
    ...entry,
    tenant: toText(entry.tenant),
    actor: toText(entry.actor),
    action: toText(entry.action),
    ref: ref && { conversation: toText(ref.conversation), turn: toText(ref.turn) },
    subject: subject === null ? null : toText(subject),
  };
}

function toRow({ ref, details, ...row }: AuditRow): AuditTable {
  return {
    seq: row.seq,
    at: row.at,
    tenant: row.tenant,
    actor: row.actor,
    action: row.action,
    conversation: ref?.conversation ?? null,
    turn: ref?.turn ?? null,
    subject: row.subject,
    details: toJson(details),
    hash: row.hash,
  };
}

function toAuditRow({ conversation, turn, details, ...row }: Selectable<AuditTable>): AuditRow {
  return {
    ...row,
    ref: conversation === null || turn === null ? null : { conversation, turn },
    details: JSON.parse(details) as AuditRow['details'],
  };
}
