import { deepStrictEqual, strictEqual } from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { systemClock } from '../engine/clock.ts';
import { aDirectory } from '../testing/directory.ts';
import { createDatabase } from './database.ts';
import { openSqlite } from './sqlite.ts';
import { storesOf } from './stores.ts';

test('a transcript with a damaged entry goes on from the last good one', async (t) => {
  const database = await createDatabase(openSqlite(join(aDirectory(t), 'damaged.db')));
  t.after(() => database.close());
  const { transcripts } = storesOf(database, systemClock);
  const key = { tenant: 'default', session: 's', subpath: '' };
  const other = { ...key, session: 'other' };
  const entries = ['a', 'b', 'c', 'd'].map((uuid) => ({ uuid, text: 'said' }));
  for (const damage of ['{"uuid":"c","te', '', 'null', '7']) {
    for (const each of [key, other]) await transcripts.append(each, entries);
    await database.write((sql) =>
      sql
        .updateTable('transcripts')
        .set({ entry: damage })
        .where('session', '=', 's')
        .where('uuid', '=', 'c')
        .execute(),
    );
    deepStrictEqual(await transcripts.load(key), entries.slice(0, 2));
    await transcripts.append(key, [{ uuid: 'e' }]);
    deepStrictEqual(await transcripts.load(key), [...entries.slice(0, 2), { uuid: 'e' }]);
    deepStrictEqual(await transcripts.load(other), entries);
    await transcripts.delete('default', 's');
  }
  strictEqual(await transcripts.load(key), null);
});
