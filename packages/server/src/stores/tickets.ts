import type { TicketStore } from '../engine/ports.ts';
import type { Database } from './database.ts';

/** Tickets in SQL, by their hash. */
export function createTicketStore(database: Database): TicketStore {
  return {
    async put(hash, { tenant, key, secretHash, expiresAt }) {
      await database.write((sql) =>
        sql
          .insertInto('tickets')
          .values({ tenant, hash, key, secret_hash: secretHash, expires_at: expiresAt })
          .execute(),
      );
    },
    async take(hash, now) {
      const row = await database.write((sql) =>
        sql
          .deleteFrom('tickets')
          .where('hash', '=', hash)
          .where('expires_at', '>', now)
          .returning(['tenant', 'key', 'secret_hash'])
          .executeTakeFirst(),
      );
      return row ? { tenant: row.tenant, key: row.key, secretHash: row.secret_hash } : null;
    },
    async sweep(now) {
      await database.write((sql) => sql.deleteFrom('tickets').where('expires_at', '<=', now).execute());
    },
  };
}
