import type { Selectable } from 'kysely';
import type { Clock } from '../engine/clock.ts';
import { KeyTakenError, type AuditEntry, type KeyRecord, type KeyStore } from '../engine/ports.ts';
import { appendAudit } from './audit.ts';
import { toJson, type Database } from './database.ts';
import type { KeyTable } from './schema.ts';

/** Keys in SQL, by the hash of their secret. */
export function createKeyStore(database: Database, clock: Clock): KeyStore {
  const keys = () => database.read.selectFrom('keys').selectAll();
  return {
    create: (key, hash, audit) => create(database, key, hash, audit),
    async byHash(hash) {
      const row = await keys().where('hash', '=', hash).executeTakeFirst();
      return row === undefined ? null : toKey(row);
    },
    async get(tenant, id) {
      const row = await keys().where('tenant', '=', tenant).where('id', '=', id).executeTakeFirst();
      return row === undefined ? null : toKey(row);
    },
    async list(tenant) {
      const newest = keys().where('tenant', '=', tenant).orderBy('created_at', 'desc').orderBy('id', 'desc');
      return (await newest.execute()).map(toKey);
    },
    expire: (tenant, id, at, audit) => change(database, clock, tenant, id, { expires_at: at }, audit),
    revoke: (tenant, id, at, audit) => change(database, clock, tenant, id, { revoked_at: at }, audit),
    async changedSince(at) {
      return (await keys().where('changed_at', '>=', at).orderBy('changed_at').execute()).map(toKey);
    },
  };
}

async function create(database: Database, key: KeyRecord, hash: string, audit?: AuditEntry): Promise<void> {
  const row = toRow(key, hash);
  await database.write(async (sql) => {
    const inserted = await sql
      .insertInto('keys')
      .values(row)
      .onConflict((conflict) => conflict.doNothing())
      .executeTakeFirst();
    if (inserted.numInsertedOrUpdatedRows !== 1n) throw new KeyTakenError(key.name);
    if (audit !== undefined) await appendAudit(sql, [audit]);
  });
}

/** Changes a key that is not revoked; false when there is none. */
async function change(
  database: Database,
  clock: Clock,
  tenant: string,
  id: string,
  changed: Partial<Pick<KeyTable, 'expires_at' | 'revoked_at'>>,
  audit?: AuditEntry,
): Promise<boolean> {
  return database.write(async (sql) => {
    const updated = await sql
      .updateTable('keys')
      // Read here and not before, as the transaction may have waited for others.
      .set({ ...changed, changed_at: clock.now() })
      .where('tenant', '=', tenant)
      .where('id', '=', id)
      .where('revoked_at', 'is', null)
      .executeTakeFirst();
    if (updated.numUpdatedRows !== 1n) return false;
    if (audit !== undefined) await appendAudit(sql, [audit]);
    return true;
  });
}

function toRow(key: KeyRecord, hash: string): KeyTable {
  return {
    tenant: key.tenant,
    id: key.id,
    hash,
    name: key.name,
    role: key.role,
    narrowing: key.narrowing && toJson(key.narrowing),
    created_at: key.createdAt,
    created_by: key.createdBy,
    expires_at: key.expiresAt,
    revoked_at: key.revokedAt,
    changed_at: null,
  };
}

function toKey(row: Selectable<KeyTable>): KeyRecord {
  return {
    tenant: row.tenant,
    id: row.id,
    name: row.name,
    role: row.role,
    narrowing: row.narrowing === null ? null : (JSON.parse(row.narrowing) as KeyRecord['narrowing']),
    createdAt: row.created_at,
    createdBy: row.created_by,
    expiresAt: row.expires_at,
    revokedAt: row.revoked_at,
  };
}
