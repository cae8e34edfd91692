import type { Transaction } from 'kysely';
import type { JobTaking, StoredJob } from '../engine/ports.ts';
import type { Database } from './database.ts';
import { columns, toJob } from './jobs-rows.ts';
import type { Schema } from './schema.ts';

/** Takes the job that is next; see `JobStore`. */
export async function takeJob(database: Database, taking: JobTaking): Promise<StoredJob | null> {
  // It is asked again and again, mostly in vain.
  const due = await database.read
    .selectFrom('jobs')
    .select('id')
    .where('status', '=', 'queued')
    .where('run_at', '<=', taking.at)
    .limit(1)
    .executeTakeFirst();
  if (due === undefined) return null;
  return await database.write(async (sql) => {
    // How many of a tenant run may not change while it is looked at.
    await database.alone(sql, ['jobs']);
    for (const { tenant, running } of await waiting(sql, taking.at)) {
      if (taking.perTenant > 0 && running >= taking.perTenant) continue;
      return await takeOf(sql, tenant, taking);
    }
    return null;
  }, 'jobs');
}

/** The tenants that have a job that is due, in the order in which they are served. */
async function waiting(sql: Transaction<Schema>, at: number): Promise<{ tenant: string; running: number }[]> {
  const rows = await sql
    .selectFrom(
      sql
        .selectFrom('jobs')
        .select('tenant')
        .distinct()
        .where('status', '=', 'queued')
        .where('run_at', '<=', at)
        .as('due'),
    )
    .select((of) => [
      'due.tenant',
      of
        .selectFrom('jobs')
        .select((count) => count.fn.countAll<number>().as('running'))
        .whereRef('jobs.tenant', '=', 'due.tenant')
        .where('jobs.status', '=', 'running')
        .as('running'),
      of
        .selectFrom('jobs')
        .select((last) => last.fn.max('jobs.started_at').as('served'))
        .whereRef('jobs.tenant', '=', 'due.tenant')
        .as('served'),
    ])
    .execute();
  return rows
    .map(({ tenant, running, served }) => ({ tenant, running: running ?? 0, served: served ?? 0 }))
    .toSorted((a, b) => a.running - b.running || a.served - b.served || (a.tenant < b.tenant ? -1 : 1));
}

async function takeOf(
  sql: Transaction<Schema>,
  tenant: string,
  { node, at, conversation }: JobTaking,
): Promise<StoredJob | null> {
  const due = () =>
    sql.selectFrom('jobs').where('tenant', '=', tenant).where('status', '=', 'queued').where('run_at', '<=', at);
  const top = await due().select('priority').orderBy('priority', 'desc').limit(1).executeTakeFirst();
  const next =
    top &&
    (await due()
      .select('id')
      .where('priority', '=', top.priority)
      .orderBy('run_at')
      .orderBy('created_at')
      .orderBy('id')
      .limit(1)
      .executeTakeFirst());
  if (!next) return null;
  const row = await sql
    .updateTable('jobs')
    .set((column) => ({
      status: 'running',
      attempt: column('attempt', '+', 1),
      node,
      conversation,
      begun: 0,
      started_at: at,
    }))
    .where('tenant', '=', tenant)
    .where('id', '=', next.id)
    .where('status', '=', 'queued')
    .returning(columns)
    .executeTakeFirst();
  return row === undefined ? null : toJob(row);
}
