import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Brain } from '@sallyport/simulator';
import { administer } from '../support/admin.ts';
import { call, decide, logOf, pendingIn } from '../support/approvals.ts';
import { ask } from '../support/idempotency.ts';
import { jobEnded, jobEvents, jobOf, queueJob } from '../support/jobs.ts';
import { answerOf, callsWith, joined, rows, scripted, until } from '../support/runs.ts';
import { masterKey, startService, type TestService } from '../support/service.ts';

const otherKey = 'test-other-key-0123456789abcdef0';
const limit = { timeout: 120_000 };

let service: TestService;
before(async () => {
  service = await startService({ env: { CLAUDE_API_KEY_2: otherKey, SALLYPORT_JOBS_AT_ONCE: '1' } });
});
after(() => service.close());

const saying = (text: string, words = '') => ({ request: { prompt: scripted([{ text }], words) } });
const writing = scripted([
  { text: 'I write. ', tools: [{ name: 'Write', input: { file_path: '/workspace/a.txt', content: 'a' } }] },
  { text: 'Written.' },
]);
const long = scripted([{ text: 'One word after the other. '.repeat(200), rate: 20 }]);

/** Queues a job that holds the only place until it is decided, and gives it with what to decide. */
async function holdPlace() {
  const { job_id: id } = await queueJob(service, { request: { prompt: writing, timeout: 300 }, priority: 9 });
  await until(async () => (await jobOf(service, id))['session_id'] !== null);
  const job = await jobOf(service, id);
  return { job, approval: await pendingIn(service, job['session_id']) };
}

test('a job runs in the background and has the result of its query', limit, async () => {
  const queued = await queueJob(service, saying('Done.'));
  assert.deepEqual(
    [queued['status'], queued['attempt'], queued['attempts'], queued['priority'], queued['session_id']],
    ['queued', 0, 1, 5, null],
  );
  const job = await jobEnded(service, queued['job_id']);
  assert.deepEqual([job['status'], job['error'], job['code'], job['attempt']], ['completed', null, null, 1]);
  assert.equal(answerOf(job['result']), 'Done.');
  assert.equal(job['result'].session_id, job['session_id']);
  assert.ok(job['created_at'] <= job['started_at'] && job['started_at'] <= job['ended_at']);
  const { body: info } = await call(service, 'GET', `conversation/${job['session_id']}/info`);
  assert.deepEqual([info['kind'], info['message_count']], ['job', 2]);
  const { body: listed } = await call(service, 'GET', 'conversation?kind=job');
  assert.ok(listed['items'].some((item: { session_id: string }) => item.session_id === job['session_id']));
  const lines = rows(service, 'select action, actor, details from audit where subject = ? order by seq', job['job_id']);
  assert.deepEqual(
    lines.map(({ action, actor }) => [action, actor]),
    [
      ['job.create', 'key-1'],
      ['job.end', 'key-1'],
    ],
  );
});

test('a job is seen by its key, and by who reads all of its tenant', limit, async () => {
  const { job_id: id } = await queueJob(service, saying('Mine.'));
  await jobEnded(service, id);
  for (const [method, path] of [
    ['GET', `jobs/${id}`],
    ['DELETE', `jobs/${id}`],
    ['GET', `jobs/${id}/events`],
    ['GET', 'jobs/job-unknown'],
  ] as const) {
    const { status, body } = await call(service, method, path, undefined, otherKey);
    assert.deepEqual([status, body['code']], [404, 'job_not_found'], path);
  }
  const ids = async (key: string) =>
    (await call(service, 'GET', 'jobs?limit=200&status=completed', undefined, key)).body['items'].map(
      (item: { job_id: string }) => item.job_id,
    );
  assert.deepEqual(await ids(otherKey), []);
  assert.ok((await ids(masterKey)).includes(id));
  const first = await call(service, 'GET', 'jobs?limit=1');
  assert.equal(first.body['items'][0].job_id, id);
  const next = await call(service, 'GET', `jobs?limit=1&cursor=${first.body['next_cursor']}`);
  assert.notEqual(next.body['items'][0].job_id, id);
  assert.equal((await jobOf(service, id, masterKey))['status'], 'completed');
});

test('what may not be asked is refused at once, and nothing is queued', limit, async () => {
  const before = rows(service, 'select count(*) as n from jobs')[0];
  const request = saying('No.').request;
  const month = new Date(Date.now() + 31 * 86_400_000).toISOString();
  for (const [body, status, code] of [
    [{ request: { ...request, project_path: '/etc' } }, 403, 'path_not_allowed'],
    [{ request: { ...request, model: 'unknown' } }, 403, 'model_not_allowed'],
    [{ request: { prompt: '' } }, 422, 'validation_failed'],
    [{ request, run_at: month }, 422, 'validation_failed'],
    [{ request, priority: 10 }, 422, 'validation_failed'],
    [{ request, attempts: 6 }, 422, 'validation_failed'],
    [{ request, webhook_url: 'http://example.com/' }, 422, 'webhook_url_refused'],
    [{ request, webhook_url: 'https://me:secret@example.com/' }, 422, 'validation_failed'],
    [{ prompt: 'x' }, 422, 'validation_failed'],
  ] as const) {
    const answer = await call(service, 'POST', 'jobs', body);
    assert.deepEqual([answer.status, answer.body['code']], [status, code], JSON.stringify(body));
  }
  assert.deepEqual(rows(service, 'select count(*) as n from jobs')[0], before);
});

test('the same request under a key is the same job, and another one is refused', limit, async () => {
  const asking = { path: 'jobs', body: saying('Once.', 'idempotent-job'), key: 'job-key' };
  const answers = await Promise.all([ask(service, asking), ask(service, asking), ask(service, asking)]);
  assert.equal(new Set(answers.map(({ body }) => body['job_id'])).size, 1);
  assert.deepEqual(
    answers.map(({ status }) => status),
    [202, 202, 202],
  );
  assert.equal(answers.filter(({ replayed }) => replayed === 'true').length, 2);
  const id = answers[0]?.body['job_id'] as string;
  await jobEnded(service, id);
  const again = await ask(service, asking);
  assert.deepEqual([again.body['job_id'], again.body['status'], again.replayed], [id, 'completed', 'true']);
  const other = await ask(service, { ...asking, body: saying('Twice.') });
  assert.deepEqual([other.status, other.body['code']], [422, 'idempotency_key_reused']);
  assert.equal(callsWith(service, 'idempotent-job').length, 1);
});

test('jobs wait for a place, the urgent ones first and the delayed ones for their time', limit, async () => {
  const { job, approval } = await holdPlace();
  const soon = new Date(Date.now() + 1500).toISOString();
  const delayed = await queueJob(service, { ...saying('d', 'order-delayed'), run_at: soon, priority: 9 });
  const low = await queueJob(service, { ...saying('l', 'order-low'), priority: 1 });
  const high = await queueJob(service, { ...saying('h', 'order-high'), priority: 8 });
  assert.equal(delayed['run_at'], soon);
  const waiting = await Promise.all([low, high].map(({ job_id: id }) => jobOf(service, id)));
  assert.deepEqual(
    waiting.map(({ status }) => status),
    ['queued', 'queued'],
  );
  await decide(service, approval, { decision: 'allow' });
  const ended = await Promise.all([job, low, high, delayed].map(({ job_id: id }) => jobEnded(service, id)));
  assert.deepEqual(
    ended.map(({ status }) => status),
    ['completed', 'completed', 'completed', 'completed'],
  );
  const [, lowEnd, highEnd, delayedEnd] = ended;
  assert.ok(highEnd!['started_at'] <= lowEnd!['started_at']);
  assert.ok(delayedEnd!['started_at'] >= soon, `${delayedEnd!['started_at']} before ${soon}`);
  assert.equal(answerOf(ended[0]!['result']), 'I write. Written.');
});

test('a queued job that is cancelled never runs, and a running one is interrupted', limit, async () => {
  const running = await queueJob(service, { request: { prompt: `${long} cancel-running` } });
  await until(() => callsWith(service, 'cancel-running').length === 1);
  const queued = await queueJob(service, saying('Never.', 'cancel-queued'));
  const cancelled = await call(service, 'DELETE', `jobs/${queued['job_id']}`);
  assert.deepEqual([cancelled.status, cancelled.body['status'], cancelled.body['result']], [200, 'cancelled', null]);
  assert.equal((await call(service, 'DELETE', `jobs/${running['job_id']}`)).status, 200);
  const stopped = await jobEnded(service, running['job_id']);
  assert.deepEqual([stopped['status'], stopped['error'], stopped['code']], ['cancelled', null, null]);
  assert.equal(stopped['result'].stop_reason, 'interrupted');
  for (const { job_id: id } of [queued, running]) {
    const again = await call(service, 'DELETE', `jobs/${id}`);
    assert.deepEqual([again.status, again.body['status']], [200, 'cancelled']);
  }
  await jobEnded(service, (await queueJob(service, saying('After.')))['job_id']);
  assert.equal(callsWith(service, 'cancel-queued').length, 0);
  const done = await jobEnded(service, (await queueJob(service, saying('Well.')))['job_id']);
  assert.equal((await call(service, 'DELETE', `jobs/${done['job_id']}`)).body['status'], 'completed');
});

test('a job whose conversation is deleted is cancelled', limit, async () => {
  const { job } = await holdPlace();
  const deleted = await call(service, 'DELETE', `conversation/${job['session_id']}`);
  assert.equal(deleted.status, 200);
  const ended = await jobEnded(service, job['job_id']);
  assert.deepEqual([ended['status'], ended['result']], ['cancelled', null]);
});

test('a job is tried again after what may pass, and not after what is final', limit, async () => {
  let failing = true;
  const brain: Brain = ({ messages }) => {
    if (JSON.stringify(messages).includes('is-final')) return { fault: { kind: 'status', status: 401 } };
    return failing ? { fault: { kind: 'refuse' } } : { text: 'At last.' };
  };
  service.simulator.play(brain);
  const passing = await queueJob(service, { request: { prompt: 'may-pass' }, attempts: 3 });
  await until(async () => (await jobOf(service, passing['job_id']))['code'] !== null);
  const between = await jobOf(service, passing['job_id']);
  assert.deepEqual([between['code'], between['attempt'] >= 1], ['upstream_error', true]);
  failing = false;
  const ended = await jobEnded(service, passing['job_id']);
  assert.deepEqual([ended['status'], ended['error'], answerOf(ended['result'])], ['completed', null, 'At last.']);
  assert.ok(ended['attempt'] >= 2);
  const final = await queueJob(service, { request: { prompt: 'is-final' }, attempts: 5 });
  const failed = await jobEnded(service, final['job_id']);
  assert.deepEqual(
    [failed['status'], failed['code'], failed['attempt']],
    ['failed', 'upstream_refused_credentials', 1],
  );
  assert.equal(failed['result'].success, false);
});

test('the time of a human does not count, and others have the place of a job that waits long', limit, async () => {
  const waiting = await queueJob(service, { request: { prompt: writing, timeout: 10 } });
  await until(async () => (await jobOf(service, waiting['job_id']))['session_id'] !== null);
  const { session_id: session } = await jobOf(service, waiting['job_id']);
  const approval = await pendingIn(service, session);
  // Nobody else could run before the job has waited for its whole timeout.
  const other = await jobEnded(service, (await queueJob(service, saying('Meanwhile.')))['job_id']);
  assert.equal(other['status'], 'completed');
  assert.ok(Date.parse(other['started_at']) - Date.parse(waiting['created_at']) >= 10_000);
  assert.equal((await jobOf(service, waiting['job_id']))['status'], 'running');
  await decide(service, approval, { decision: 'allow' });
  const ended = await jobEnded(service, waiting['job_id']);
  assert.deepEqual([ended['status'], answerOf(ended['result'])], ['completed', 'I write. Written.']);
});

test('the end of a job is told once to its webhook, and one that could not be told is refused', limit, async () => {
  const asking = { ...saying('Told.'), webhook_url: 'https://hooks.invalid/in' };
  const without = await call(service, 'POST', 'jobs', asking);
  assert.deepEqual([without.status, without.body['code']], [409, 'webhook_secret_missing']);
  await administer(service, 'POST', 'webhooks/secret', {});
  const { job_id: id } = await queueJob(service, asking);
  assert.equal((await jobEnded(service, id))['status'], 'completed');
  const [delivery, ...more] = rows(service, 'select type, url, body from deliveries where job = ?', id);
  assert.deepEqual(more, []);
  assert.deepEqual([delivery?.['type'], delivery?.['url']], ['job.completed', asking.webhook_url]);
  const { result } = JSON.parse(delivery?.['body'] ?? '').data;
  assert.deepEqual(result, (await jobOf(service, id))['result']);
  const later = await queueJob(service, { ...asking, run_at: new Date(Date.now() + 3_600_000).toISOString() });
  await call(service, 'DELETE', `jobs/${later['job_id']}`);
  const types = rows(service, 'select type from deliveries where job = ?', later['job_id']);
  assert.deepEqual(
    types.map(({ type }) => type),
    ['job.cancelled'],
  );
});

test('a job is followed from the line to its end, and read on after any event', limit, async () => {
  const { job: first, approval } = await holdPlace();
  const { job_id: id } = await queueJob(service, saying('A few words in a row.'));
  const following = jobEvents(service, id, { until: 'queued' });
  await following.seen;
  await decide(service, approval, { decision: 'deny' });
  const { events, last } = await following.all;
  await jobEnded(service, first['job_id']);
  const types = events.map(({ event }) => event.type);
  assert.deepEqual([types[0], events[0]?.event.content, types.at(-1), last], ['status', '', 'status', '[DONE]']);
  assert.equal(joined({ events }), 'A few words in a row.');
  const end = events.at(-1)?.event;
  assert.deepEqual([end?.type === 'status' && end.status, end?.is_complete], ['completed', true]);
  assert.ok(events.some(({ event }) => event.type === 'result' && event.is_complete));
  const { session_id: session } = await jobOf(service, id);
  // What is said in the conversation later is not of the job.
  await call(service, 'POST', `conversation/${session}/continue`, {
    session_id: session,
    message: scripted([{ text: 'Later.' }]),
  });
  const { events: whole } = await jobEvents(service, id).all;
  assert.equal(joined({ events: whole }), 'A few words in a row.');
  const marked = events.filter(({ id: cursor }) => cursor !== null);
  for (const [index, { id: cursor }] of marked.entries()) {
    const { events: rest } = await jobEvents(service, id, { after: cursor ?? '' }).all;
    const seen = joined({ events: marked.slice(0, index + 1) });
    assert.equal(seen + joined({ events: rest }), 'A few words in a row.', cursor ?? '');
    assert.equal(rest.at(-1)?.event.type, 'status');
  }
  for (const after of [`${session}.999.0`, '1.1.0', 'x', '1.0', `${session}.1`]) {
    const answer = await call(service, 'GET', `jobs/${id}/events?after=${after}`);
    assert.deepEqual([answer.status, answer.body['code']], [400, 'bad_cursor'], after);
  }
  assert.equal((await logOf(service, session)).filter(({ type }) => type === 'result').length, 2);
});
