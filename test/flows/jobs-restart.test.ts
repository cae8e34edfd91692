import assert from 'node:assert/strict';
import { test } from 'node:test';
import { call, decide, pendingIn } from '../support/approvals.ts';
import { jobEnded, jobOf, queueJob } from '../support/jobs.ts';
import { restartable, type Restartable } from '../support/restart.ts';
import { answerOf, callsWith, rows, scripted, until } from '../support/runs.ts';
import { change } from '../support/stored.ts';

const limit = { timeout: 180_000 };

/** Stops the service as its owner would, and starts it again. */
async function stopAndStart(service: Restartable): Promise<void> {
  service.program.signal('SIGTERM');
  assert.equal(await service.program.exited, 0);
  await service.start();
}

const slow = (words: string) => scripted([{ text: 'One word after the other. '.repeat(8), rate: 40 }], words);

test(
  'jobs outlive a service that is stopped while they run, are queued, or wait for a human',
  limit,
  async (context) => {
    const env = { SALLYPORT_DRAIN_SECONDS: '0', SALLYPORT_JOBS_AT_ONCE: '3' };
    const service = await restartable(context, { env });
    const write = { name: 'Write', input: { file_path: '/workspace/a.txt', content: 'a' } };
    const asking = await queueJob(service, {
      request: { prompt: scripted([{ tools: [write] }, { text: 'Written.' }]), timeout: 300 },
    });
    const doing = await queueJob(service, {
      request: {
        prompt: scripted([{ tools: [write] }, { text: 'One word. '.repeat(100), rate: 20 }], 'restart-doing'),
        permission_mode: 'acceptEdits',
      },
      attempts: 5,
    });
    await until(() => callsWith(service, 'restart-doing').length === 2);
    const saying = await queueJob(service, { request: { prompt: slow('restart-saying') } });
    await until(() => callsWith(service, 'restart-saying').length === 1);
    const later = new Date(Date.now() + 3_600_000).toISOString();
    const delayed = await queueJob(service, { request: { prompt: slow('restart-delayed') }, run_at: later });
    await until(async () => (await jobOf(service, asking['job_id']))['session_id'] !== null);
    await pendingIn(service, (await jobOf(service, asking['job_id']))['session_id']);

    await stopAndStart(service);

    const said = await jobEnded(service, saying['job_id']);
    assert.deepEqual([said['status'], said['attempt']], ['completed', 1], JSON.stringify(said));
    assert.equal(answerOf(said['result']), 'One word after the other. '.repeat(8));
    // What had written would write again.
    const done = await jobEnded(service, doing['job_id']);
    assert.deepEqual([done['status'], done['code'], done['attempt']], ['failed', null, 1]);
    assert.match(done['error'], /the service is stopping/u);
    assert.equal((await jobOf(service, delayed['job_id']))['status'], 'queued');
    const { session_id: session } = await jobOf(service, asking['job_id']);
    await decide(service, await pendingIn(service, session), { decision: 'allow' });
    const asked = await jobEnded(service, asking['job_id']);
    assert.deepEqual([asked['status'], asked['session_id'], asked['attempt']], ['completed', session, 1]);
    assert.equal((await call(service, 'DELETE', `jobs/${delayed['job_id']}`)).body['status'], 'cancelled');
  },
);

test('a job is deleted when its time has passed, and its conversation', limit, async (context) => {
  const service = await restartable(context, { env: { SALLYPORT_RETENTION_DAYS: '1' } });
  const old = await jobEnded(
    service,
    (await queueJob(service, { request: { prompt: scripted([{ text: 'Old.' }]) } }))['job_id'],
  );
  const young = await jobEnded(
    service,
    (await queueJob(service, { request: { prompt: scripted([{ text: 'New.' }]) } }))['job_id'],
  );
  const days = 86_400_000;
  await service.kill();
  for (const job of [old, young]) {
    const by = (job === old ? 1.1 : 0.9) * days;
    change(service, 'update jobs set ended_at = ended_at - ? where id = ?', by, job['job_id']);
    change(service, 'update conversations set last_active_at = last_active_at - ? where id = ?', by, job['session_id']);
  }
  await service.start();
  await until(() => rows(service, 'select id from jobs where id = ?', old['job_id']).length === 0);
  await until(
    () =>
      rows(service, "select id from conversations where id = ? and status = 'gone'", old['session_id']).length === 1,
  );
  assert.equal((await call(service, 'GET', `jobs/${old['job_id']}`)).status, 404);
  assert.equal((await jobOf(service, young['job_id']))['result'].success, true);
});
