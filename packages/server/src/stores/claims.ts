import type { Transaction } from 'kysely';
import { ClaimTakenError, type IdempotencyClaim, type TurnRef, type TurnStore } from '../engine/ports.ts';
import type { Database } from './database.ts';
import { toTurn } from './rows.ts';
import type { Schema } from './schema.ts';

/** Keeps the claim under which a turn was accepted, in place of an expired one. Throws `ClaimTakenError`. */
export async function insertClaim(
  sql: Transaction<Schema>,
  { tenant, turn }: TurnRef,
  claim: IdempotencyClaim | null,
  now: number,
): Promise<void> {
  if (claim === null) return;
  const { key, idempotencyKey: idempotency_key, hash, expiresAt: expires_at } = claim;
  const inserted = await sql
    .insertInto('claims')
    .values({ tenant, key, idempotency_key, hash, turn, expires_at })
    .onConflict((conflict) =>
      conflict
        .columns(['tenant', 'key', 'idempotency_key'])
        .doUpdateSet({ hash, turn, expires_at })
        .where('claims.expires_at', '<=', now),
    )
    .executeTakeFirst();
  if (inserted.numInsertedOrUpdatedRows !== 1n) throw new ClaimTakenError();
}

/** Throws `ClaimTakenError` when there is a turn under the claim. */
export async function refuseTaken(
  sql: Transaction<Schema>,
  tenant: string,
  claim: IdempotencyClaim | null,
  now: number,
): Promise<void> {
  if (claim === null) return;
  const taken = await sql
    .selectFrom('claims')
    .select('turn')
    .where('tenant', '=', tenant)
    .where('key', '=', claim.key)
    .where('idempotency_key', '=', claim.idempotencyKey)
    .where('expires_at', '>', now)
    .executeTakeFirst();
  if (taken !== undefined) throw new ClaimTakenError();
}

/** Gives the `Idempotency-Key` of a turn free. */
export async function deleteClaim(sql: Transaction<Schema>, { tenant, turn }: TurnRef): Promise<void> {
  await sql.deleteFrom('claims').where('tenant', '=', tenant).where('turn', '=', turn).execute();
}

/** The turn under an `Idempotency-Key` that has not expired; null when there is none. */
export async function claimed(
  database: Database,
  tenant: string,
  key: string,
  idempotencyKey: string,
  now: number,
): ReturnType<TurnStore['claimed']> {
  const row = await database.read
    .selectFrom('claims')
    .innerJoin('turns', (join) =>
      join.onRef('turns.tenant', '=', 'claims.tenant').onRef('turns.id', '=', 'claims.turn'),
    )
    .selectAll('turns')
    .select('claims.hash')
    .where('claims.tenant', '=', tenant)
    .where('claims.key', '=', key)
    .where('claims.idempotency_key', '=', idempotencyKey)
    .where('claims.expires_at', '>', now)
    .executeTakeFirst();
  return row === undefined ? null : { hash: row.hash, turn: toTurn(row) };
}

/** Deletes up to `limit` expired claims, of all tenants, and gives how many. */
export async function sweepClaims(database: Database, now: number, limit: number): Promise<number> {
  const deleted = await database.write((sql) =>
    sql
      .deleteFrom('claims')
      .where((where) =>
        where(
          where.refTuple('tenant', 'key', 'idempotency_key'),
          'in',
          where
            .selectFrom('claims as expired')
            .select(['expired.tenant', 'expired.key', 'expired.idempotency_key'])
            .where('expired.expires_at', '<=', now)
            .orderBy('expired.expires_at')
            .limit(limit)
            .$asTuple('tenant', 'key', 'idempotency_key'),
        ),
      )
      .executeTakeFirst(),
  );
  return Number(deleted.numDeletedRows);
}
