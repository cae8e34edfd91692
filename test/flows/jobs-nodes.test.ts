import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { call } from '../support/approvals.ts';
import { jobEnded, jobEvents, jobOf, queueJob } from '../support/jobs.ts';
import { nodesOn } from '../support/nodes.ts';
import { leftOutWithoutPostgres, startPostgres, type PostgresServer } from '../support/postgres.ts';
import { callsWith, joined, scripted, until } from '../support/runs.ts';

const limit = { timeout: 240_000 };
const slow = (words: string) => ({
  request: { prompt: scripted([{ text: 'One word after the other. '.repeat(8), rate: 40 }], words) },
});
const endless = (words: string) => ({
  request: { prompt: scripted([{ text: 'slowly told. '.repeat(300), rate: 20 }], words) },
});

describe('jobs on several nodes', { skip: leftOutWithoutPostgres('jobs on several nodes') }, () => {
  let postgres: PostgresServer;
  before(async () => {
    postgres = await startPostgres();
  });
  after(() => postgres.close());

  test('jobs of a node that is killed go on or begin on another one, each once', limit, async (context) => {
    const nodes = await nodesOn(context, postgres, 'jobs_killed');
    const env = { SALLYPORT_JOBS_AT_ONCE: '2' };
    const one = await nodes.start('a', env);
    const jobs = await Promise.all(Array.from({ length: 6 }, (_, index) => queueJob(one, slow(`on-nodes-${index}-`))));
    await until(() => callsWith(nodes, 'on-nodes-').length >= 2);
    const other = await nodes.start('b', env);
    one.program.signal('SIGKILL');
    for (const { job_id: id } of jobs) {
      const job = await jobEnded(other, id);
      assert.deepEqual([job['status'], job['attempt']], ['completed', 1], JSON.stringify(job));
    }
    const turns = await nodes.rows<{ n: string }>("select count(*) as n from turns where request like '%on-nodes-%'");
    assert.equal(Number(turns[0]?.n), 6);
    const ends = await nodes.rows<{ n: string }>("select count(*) as n from audit where action = 'job.end'");
    assert.equal(Number(ends[0]?.n), 6);
  });

  test('a job that runs on one node is followed and cancelled on another one', limit, async (context) => {
    const nodes = await nodesOn(context, postgres, 'jobs_cancelled');
    const one = await nodes.start('a', { SALLYPORT_JOBS_AT_ONCE: '1' });
    const other = await nodes.start('b', { SALLYPORT_JOBS_AT_ONCE: '0' });
    const { job_id: id } = await queueJob(other, endless('cancelled-elsewhere'));
    await until(() => callsWith(nodes, 'cancelled-elsewhere').length === 1);
    const following = jobEvents(other, id).all;
    await call(other, 'DELETE', `jobs/${id}`);
    const job = await jobEnded(other, id);
    assert.deepEqual([job['status'], job['result'].stop_reason], ['cancelled', 'interrupted']);
    const { events, last } = await following;
    assert.equal(last, '[DONE]');
    const end = events.at(-1)?.event;
    assert.equal(end?.type === 'status' && end.status, 'cancelled');
    assert.equal(events.filter(({ event }) => event.type === 'result').length, 1);
    const next = await queueJob(other, slow('next-elsewhere'));
    const followed = await jobEvents(other, next['job_id']).all;
    assert.equal(joined(followed), 'One word after the other. '.repeat(8));
    assert.equal((await jobOf(one, next['job_id']))['status'], 'completed');
  });
});
