import type { Transaction } from 'kysely';
import {
  StaleEpochError,
  type TranscriptEntry,
  type TranscriptKey,
  type TranscriptStore,
  type TurnRef,
} from '../engine/ports.ts';
import { laneOf, toJson, type Database } from './database.ts';
import type { Schema } from './schema.ts';

/** Claude Code's transcripts in SQL. Entries are kept as the JSON they came as and never looked into but for `uuid`. */
export function createTranscriptStore(database: Database): TranscriptStore {
  return {
    append: (key, entries, writer) => append(database, key, entries, writer),
    load: (key) => load(database, key),
    async has(tenant, session) {
      const row = await database.read
        .selectFrom('transcripts')
        .select('position')
        .where('tenant', '=', tenant)
        .where('session', '=', session)
        .where('subpath', '=', '')
        .limit(1)
        .executeTakeFirst();
      return row !== undefined;
    },
    subpaths: (tenant, session) => subpaths(database, tenant, session),
    async delete(tenant, session) {
      await database.write((sql) =>
        sql.deleteFrom('transcripts').where('tenant', '=', tenant).where('session', '=', session).execute(),
      );
    },
  };
}

/** Most rows of one statement, as databases bound the values of one. */
const rowsPerInsert = 1000;

async function append(
  database: Database,
  { tenant, session, subpath }: TranscriptKey,
  entries: readonly TranscriptEntry[],
  writer: TurnRef | undefined,
): Promise<void> {
  if (entries.length === 0) return;
  const prepared = entries.map((entry) => ({
    uuid: typeof entry['uuid'] === 'string' ? entry['uuid'] : null,
    entry: toJson(entry),
  }));
  const write = async (sql: Transaction<Schema>) => {
    if (writer === undefined) await database.alone(sql, ['transcript', tenant, session, subpath]);
    else await mustBeLast(database, sql, writer);
    const { last } = await sql
      .selectFrom('transcripts')
      .select((column) => column.fn.coalesce(column.fn.max('position'), column.lit(0)).as('last'))
      .where('tenant', '=', tenant)
      .where('session', '=', session)
      .where('subpath', '=', subpath)
      .executeTakeFirstOrThrow();
    const rows = prepared.map((row, index) => ({ tenant, session, subpath, position: last + index + 1, ...row }));
    for (let from = 0; from < rows.length; from += rowsPerInsert) {
      await sql
        .insertInto('transcripts')
        .values(rows.slice(from, from + rowsPerInsert))
        .onConflict((conflict) =>
          conflict.columns(['tenant', 'session', 'subpath', 'uuid']).where('uuid', 'is not', null).doNothing(),
        )
        .execute();
    }
  };
  // A turn that has its end has its transcript before that.
  await database.writeSoon(write, laneOf(tenant, session));
}

/**
 * Throws `StaleEpochError` unless the turn is the last of its conversation and this writer has it: then nobody else takes
 * it, or writes for it, before the end of the transaction. Before its first turn a process has the epoch alone.
 */
async function mustBeLast(database: Database, sql: Transaction<Schema>, writer: TurnRef): Promise<void> {
  const { tenant, conversation, turn, epoch } = writer;
  const of = sql
    .selectFrom('conversations')
    .select('conversations.id')
    .where('conversations.tenant', '=', tenant)
    .where('conversations.id', '=', conversation)
    .where('conversations.epoch', '=', epoch);
  const ofTurn = of
    .innerJoin('turns', (join) =>
      join.onRef('turns.tenant', '=', 'conversations.tenant').onRef('turns.conversation', '=', 'conversations.id'),
    )
    .where('turns.id', '=', turn)
    .where('turns.epoch', '=', epoch);
  const found = await (turn === '' ? of : database.holding(ofTurn)).executeTakeFirst();
  if (found === undefined) throw new StaleEpochError(writer);
}

async function load(database: Database, key: TranscriptKey) {
  const { tenant, session, subpath } = key;
  const rows = await database.read
    .selectFrom('transcripts')
    .select(['position', 'entry'])
    .where('tenant', '=', tenant)
    .where('session', '=', session)
    .where('subpath', '=', subpath)
    .orderBy('position')
    .execute();
  const entries: TranscriptEntry[] = [];
  for (const { position, entry } of rows) {
    const read = readEntry(entry);
    if (read === null) {
      await deleteFrom(database, key, position);
      break;
    }
    entries.push(read);
  }
  return entries.length === 0 ? null : entries;
}

/** What comes after an entry that is damaged hangs on it: the session goes on from the last good one, as if it were the last. */
async function deleteFrom(
  database: Database,
  { tenant, session, subpath }: TranscriptKey,
  position: number,
): Promise<void> {
  await database.write(
    async (sql) => {
      await sql
        .deleteFrom('transcripts')
        .where('tenant', '=', tenant)
        .where('session', '=', session)
        .where('subpath', '=', subpath)
        .where('position', '>=', position)
        .execute();
    },
    laneOf(tenant, session),
  );
}

/** Null when it is not what was stored. */
function readEntry(text: string): TranscriptEntry | null {
  try {
    const entry: unknown = JSON.parse(text);
    return typeof entry === 'object' ? (entry as TranscriptEntry | null) : null;
  } catch {
    return null;
  }
}

async function subpaths(database: Database, tenant: string, session: string): Promise<string[]> {
  const rows = await database.read
    .selectFrom('transcripts')
    .select('subpath')
    .distinct()
    .where('tenant', '=', tenant)
    .where('session', '=', session)
    .where('subpath', '!=', '')
    .orderBy('subpath')
    .execute();
  return rows.map((row) => row.subpath);
}
