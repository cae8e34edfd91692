import { deepStrictEqual } from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { leftOutWithoutPostgres } from '../../../../test/support/postgres.ts';
import { systemClock } from '../engine/clock.ts';
import { anEntry } from '../testing/audit-entries.ts';
import { aJob, queueJobs, takeNext, taken } from '../testing/job-samples.ts';
import { postgresForTests } from '../testing/postgres.ts';
import { createJobStore } from './jobs.ts';
import { connectPostgres, createPostgresDatabase, postgresBounds, type PostgresBounds } from './postgres.ts';

/** No promise depends on how busy the machine is. */
const patient = 120_000;
const bounds: PostgresBounds = {
  ...postgresBounds,
  connectMs: patient,
  lockMs: patient,
  statementMs: patient,
  answerMs: patient,
  idleMs: patient,
  patienceMs: patient,
};

const again = { runAt: 0, counts: true, error: 'Later.', code: 'upstream_error' } as const;

if (!leftOutWithoutPostgres('jobs on Postgres')) {
  const postgres = await postgresForTests();

  test('a job that is queued again while it is cancelled is cancelled', async (t) => {
    const url = await postgres.newDatabase();
    const stores = postgres.open(t, url);
    await queueJobs(stores, aJob('a'));
    const ref = taken(await takeNext(stores));
    const retried: Promise<boolean>[] = [];
    // After the first statement of the cancelling another process queues it again, if that does not hold the row.
    const connection = connectPostgres(url, bounds).withPlugin({
      transformQuery: ({ node }) => node,
      async transformResult({ result }) {
        if (retried.length === 0) retried.push(stores.jobs.retry(ref, again));
        await Promise.race([...retried, delay(300)]);
        return result;
      },
    });
    const database = createPostgresDatabase({ connection, clock: systemClock, bounds });
    t.after(() => database.close());
    const told = { audit: anEntry('cancel'), delivery: null };
    await createJobStore(database).cancel('default', 'a', 1, told);
    const [isQueuedAgain] = await Promise.all(retried);
    const job = await stores.jobs.get('default', 'a');
    deepStrictEqual([isQueuedAgain, job?.status, job?.cancelling], [false, 'running', true]);
  });
}
