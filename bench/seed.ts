import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

/** The tables of a conversation, with the column that names it and those that must differ between two of them. */
const tables = [
  { table: 'conversations', named: 'id', unique: ['id', 'sdk_session'] },
  { table: 'turns', named: 'conversation', unique: ['conversation', 'id'] },
  { table: 'events', named: 'conversation', unique: ['conversation', 'turn'] },
] as const;

/**
 * Copies a conversation so many times in the database of a service that does not run: with its turns and events, and
 * without its transcript, which no process holds. The copies are named `<id>-<number>`, from 1.
 */
export function multiply(dataDir: string, conversation: string, copies: number): void {
  const database = new DatabaseSync(join(dataDir, 'sallyport.db'), { enableForeignKeyConstraints: true });
  try {
    database.exec('begin immediate');
    for (const { table, named, unique } of tables) {
      const columns = database.prepare(`select name from pragma_table_info('${table}')`).all();
      const names = columns.map(({ name }) => String(name));
      const isUnique = (name: string) => unique.some((one) => one === name);
      const values = names.map((name) => (isUnique(name) ? `"${name}" || '-' || number` : `"${name}"`));
      const into = `insert into ${table} (${names.map((name) => `"${name}"`).join(', ')})`;
      const numbers =
        'with recursive numbers(number) as (select 1 union all select number + 1 from numbers where number < ?)';
      database
        .prepare(`${into} ${numbers} select ${values.join(', ')} from ${table}, numbers where "${named}" = ?`)
        .run(copies, conversation);
    }
    database.exec('commit');
  } finally {
    database.close();
  }
}
