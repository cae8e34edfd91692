import { DatabaseSync, type SQLInputValue } from 'node:sqlite';
import { join } from 'node:path';

/** Changes rows of the service's database beside it. */
export function change(service: { dataDir: string }, sql: string, ...values: SQLInputValue[]): void {
  const database = new DatabaseSync(join(service.dataDir, 'sallyport.db'), { timeout: 5_000 });
  try {
    database.prepare(sql).run(...values);
  } finally {
    database.close();
  }
}

/** Lets a conversation seem older, by so many milliseconds. */
export function age(service: { dataDir: string }, conversation: string, milliseconds: number): void {
  change(
    service,
    'update conversations set last_active_at = last_active_at - ? where id = ?',
    milliseconds,
    conversation,
  );
}
