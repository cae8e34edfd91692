import type { Selectable, Transaction } from 'kysely';
import type { Clock } from '../engine/clock.ts';
import { KeyTakenError, type AuditEntry, type KeyRecord, type KeyStore } from '../engine/ports.ts';
import { appendAudit } from './audit.ts';
import { laneOf, toJson, type Database } from './database.ts';
import type { KeyTable, Schema } from './schema.ts';

/** Keys in SQL, by the hashes of their secrets. */
export function createKeyStore(database: Database, clock: Clock): KeyStore {
  const keys = () => database.read.selectFrom('keys').selectAll('keys');
  return {
    create: (key, hash, audit) => create(database, key, hash, audit),
    async byHash(hash) {
      const row = await keys()
        .innerJoin('key_secrets as secret', (join) =>
          join.onRef('secret.tenant', '=', 'keys.tenant').onRef('secret.key', '=', 'keys.name'),
        )
        .select('secret.current')
        .where('secret.hash', '=', hash)
        .executeTakeFirst();
      return row === undefined ? null : { key: toKey(row), until: row.current === 1 ? null : row.previous_until };
    },
    async get(tenant, name) {
      const row = await keys().where('tenant', '=', tenant).where('name', '=', name).executeTakeFirst();
      return row === undefined ? null : toKey(row);
    },
    async list(tenant) {
      const newest = keys().where('tenant', '=', tenant).orderBy('created_at', 'desc').orderBy('name', 'desc');
      return (await newest.execute()).map(toKey);
    },
    change(tenant, name, { narrowing, expiresAt }, audit) {
      const changed = {
        ...(narrowing === undefined ? {} : { narrowing: narrowing && toJson(narrowing) }),
        ...(expiresAt === undefined ? {} : { expires_at: expiresAt }),
      };
      return update(database, clock, tenant, name, changed, audit);
    },
    rotate: (tenant, name, hash, previousUntil, audit) =>
      update(database, clock, tenant, name, { previous_until: previousUntil }, audit, (sql) =>
        replaceSecret(sql, tenant, name, hash),
      ),
    revoke: (tenant, name, at, audit) => update(database, clock, tenant, name, { revoked_at: at }, audit),
    changedSince: (at) =>
      database.read
        .selectFrom('keys')
        .select(['tenant', 'name'])
        .where('changed_at', '>=', at)
        .orderBy('changed_at')
        .execute(),
  };
}

async function create(database: Database, key: KeyRecord, hash: string, audit: AuditEntry): Promise<void> {
  const row = toRow(key);
  await database.write(async (sql) => {
    const inserted = await sql
      .insertInto('keys')
      .values(row)
      .onConflict((conflict) => conflict.columns(['tenant', 'name']).doNothing())
      .executeTakeFirst();
    if (inserted.numInsertedOrUpdatedRows !== 1n) throw new KeyTakenError(key.name);
    await insertSecret(sql, key.tenant, key.name, hash);
    await appendAudit(sql, [audit]);
  });
}

/** Changes a key that is not revoked, and more in the same transaction; false, with nothing done, when there is none. */
async function update(
  database: Database,
  clock: Clock,
  tenant: string,
  name: string,
  changed: Partial<KeyTable>,
  audit: AuditEntry,
  more?: (sql: Transaction<Schema>) => Promise<void>,
): Promise<boolean> {
  const write = async (sql: Transaction<Schema>) => {
    const updated = await sql
      .updateTable('keys')
      // Read here and not before, as the transaction may have waited for others.
      .set({ ...changed, changed_at: clock.now() })
      .where('tenant', '=', tenant)
      .where('name', '=', name)
      .where('revoked_at', 'is', null)
      .executeTakeFirst();
    if (updated.numUpdatedRows !== 1n) return false;
    await more?.(sql);
    await appendAudit(sql, [audit]);
    return true;
  };
  return database.write(write, laneOf(tenant, name));
}

/** Makes the current secret the previous one, in place of an older one, and the given one current. */
async function replaceSecret(sql: Transaction<Schema>, tenant: string, key: string, hash: string): Promise<void> {
  const older = await sql
    .deleteFrom('key_secrets')
    .where('tenant', '=', tenant)
    .where('key', '=', key)
    .where('current', '=', 0)
    .returning('hash')
    .executeTakeFirst();
  if (older?.hash === hash) throw new KeyTakenError(key);
  await sql
    .updateTable('key_secrets')
    .set({ current: 0 })
    .where('tenant', '=', tenant)
    .where('key', '=', key)
    .where('current', '=', 1)
    .execute();
  await insertSecret(sql, tenant, key, hash);
}

async function insertSecret(sql: Transaction<Schema>, tenant: string, key: string, hash: string): Promise<void> {
  const inserted = await sql
    .insertInto('key_secrets')
    .values({ tenant, key, current: 1, hash })
    .onConflict((conflict) => conflict.column('hash').doNothing())
    .executeTakeFirst();
  if (inserted.numInsertedOrUpdatedRows !== 1n) throw new KeyTakenError(key);
}

function toRow(key: KeyRecord): KeyTable {
  return {
    tenant: key.tenant,
    name: key.name,
    role: key.role,
    narrowing: key.narrowing && toJson(key.narrowing),
    created_at: key.createdAt,
    created_by: key.createdBy,
    expires_at: key.expiresAt,
    revoked_at: key.revokedAt,
    previous_until: key.previousUntil,
    changed_at: null,
  };
}

function toKey(row: Selectable<KeyTable>): KeyRecord {
  return {
    tenant: row.tenant,
    name: row.name,
    role: row.role,
    narrowing: row.narrowing === null ? null : (JSON.parse(row.narrowing) as KeyRecord['narrowing']),
    createdAt: row.created_at,
    createdBy: row.created_by,
    expiresAt: row.expires_at,
    revokedAt: row.revoked_at,
    previousUntil: row.previous_until,
  };
}
