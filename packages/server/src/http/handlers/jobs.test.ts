import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultBounds, operations, type JobInfo, type JobRequest, type JobSummary } from '@sallyport/protocol';
import type { JobItem } from '../../engine/jobs-events.ts';
import { SallyportError } from '../../engine/errors.ts';
import { runResult } from '../samples-support.ts';
import { bearer, testApp } from '../testing.ts';

const table = operations(defaultBounds);
const base = '/api/claude/jobs';

const summary: JobSummary = {
  job_id: 'job-1',
  status: 'queued',
  priority: 5,
  attempt: 0,
  attempts: 1,
  session_id: null,
  error: null,
  code: null,
  webhook_url: null,
  created_at: '2030-01-01T00:00:00.000Z',
  run_at: '2030-01-01T00:00:00.000Z',
  started_at: null,
  ended_at: null,
};
const info: JobInfo = { ...summary, status: 'completed', result: { ...runResult(), messages: [] } };

const post = (payload: object, headers: Record<string, string> = {}) => ({
  method: 'POST' as const,
  url: base,
  payload,
  headers: { ...bearer('user'), ...headers },
});

test('a job is queued with its defaults filled in, and the answer says whether it is an earlier one', async () => {
  const { app, jobs } = await testApp();
  const made: { body: JobRequest; key: string | null; role: string }[] = [];
  let replayed = false;
  jobs.create = async (principal, body, { idempotencyKey: key }) => {
    made.push({ body, key, role: principal.role });
    return { job: summary, replayed };
  };
  const first = await app.inject(post({ request: { prompt: 'x' } }));
  assert.deepEqual([first.statusCode, first.json()], [202, summary]);
  assert.equal(first.headers['idempotency-replayed'], undefined);
  assert.deepEqual(table.createJob.response.schema.parse(first.json()), summary);
  replayed = true;
  const run_at = '2030-01-01T01:00:00+01:00';
  const body = { request: { prompt: 'x' }, priority: 0, run_at, attempts: 5, webhook_url: 'https://example.com/a?b#c' };
  const second = await app.inject(post(body, { 'idempotency-key': 'k' }));
  assert.deepEqual([second.statusCode, second.headers['idempotency-replayed']], [202, 'true']);
  const [plain, full] = made;
  assert.deepEqual([plain?.body.priority, plain?.body.attempts, plain?.key, plain?.role], [5, 1, null, 'user']);
  assert.equal(plain?.body.request.max_turns, 3);
  assert.deepEqual({ ...full?.body, request: body.request }, body);
  assert.equal(full?.key, 'k');
  await app.close();
});

const bad: readonly [object, string[]][] = [
  [{}, ['body', 'request']],
  [{ request: { prompt: '' } }, ['body', 'request', 'prompt']],
  [{ request: { prompt: 'x', timeout: 1 } }, ['body', 'request', 'timeout']],
  [{ request: { prompt: 'x', unknown: 1 } }, ['body', 'request', 'unknown']],
  [{ request: { prompt: 'x' }, prompt: 'x' }, ['body', 'prompt']],
  [{ request: { prompt: 'x' }, priority: -1 }, ['body', 'priority']],
  [{ request: { prompt: 'x' }, priority: 1.5 }, ['body', 'priority']],
  [{ request: { prompt: 'x' }, attempts: 0 }, ['body', 'attempts']],
  [{ request: { prompt: 'x' }, run_at: 'tomorrow' }, ['body', 'run_at']],
  [{ request: { prompt: 'x' }, run_at: 1_900_000_000 }, ['body', 'run_at']],
  [{ request: { prompt: 'x' }, webhook_url: 'ftp://example.com/' }, ['body', 'webhook_url']],
  [{ request: { prompt: 'x' }, webhook_url: 'https://' }, ['body', 'webhook_url']],
  [{ request: { prompt: 'x' }, webhook_url: `https://example.com/${'a'.repeat(2000)}` }, ['body', 'webhook_url']],
  [{ request: { prompt: 'x' }, webhook_url: 'https://u:p@example.com/' }, ['body', 'webhook_url']],
];

test('a job whose fields are wrong is refused, and nothing is queued', async () => {
  const { app } = await testApp();
  for (const [payload, loc] of bad) {
    const answer = await app.inject(post(payload));
    assert.equal(answer.statusCode, 422, JSON.stringify(payload));
    assert.deepEqual(answer.json<{ detail: { loc: string[] }[] }>().detail[0]?.loc, loc, JSON.stringify(payload));
  }
  for (const query of ['?status=done', '?limit=0', '?priority=1']) {
    assert.equal((await app.inject({ url: `${base}${query}`, headers: bearer('user') })).statusCode, 422, query);
  }
  await app.close();
});

test('jobs are listed, shown and cancelled as they stand', async () => {
  const { app, jobs } = await testApp();
  const asked: unknown[] = [];
  jobs.list = async (_, list) => {
    asked.push(list);
    return { items: [summary], next_cursor: 'next' };
  };
  jobs.get = async (_, id) => ({ ...info, job_id: id });
  jobs.cancel = async (_, id) => ({ ...info, job_id: id, status: 'cancelled' });
  const listed = await app.inject({ url: `${base}?status=failed&limit=2&cursor=c`, headers: bearer('viewer') });
  assert.deepEqual(listed.json(), { items: [summary], next_cursor: 'next' });
  assert.deepEqual(asked, [{ status: 'failed', limit: 2, cursor: 'c' }]);
  const shown = await app.inject({ url: `${base}/job-9`, headers: bearer('viewer') });
  assert.deepEqual(table.job.response.schema.parse(shown.json()), { ...info, job_id: 'job-9' });
  const cancelled = await app.inject({ method: 'DELETE', url: `${base}/job-9`, headers: bearer('user') });
  assert.deepEqual([cancelled.statusCode, cancelled.json<JobInfo>().status], [200, 'cancelled']);
  jobs.get = async () => {
    throw new SallyportError('job_not_found');
  };
  const missing = await app.inject({ url: `${base}/job-9`, headers: bearer('viewer') });
  assert.deepEqual([missing.statusCode, missing.json<{ code: string }>().code], [404, 'job_not_found']);
  await app.close();
});

test('the events of a job are frames under their cursors, up to the last line', async () => {
  const { app, jobs } = await testApp();
  const afters: (string | undefined)[] = [];
  const common = { content: '', role: 'system' as const, tools_used: [], is_complete: false, error: null };
  jobs.events = async (_, _id, { after }) => {
    afters.push(after);
    return (async function* events(): AsyncGenerator<JobItem> {
      yield { cursor: null, event: { ...common, type: 'status', status: 'queued' } };
      yield { cursor: '1.2.3', event: { ...common, role: 'assistant', type: 'text_delta', content: 'hi' } };
      yield { cursor: null, event: { ...common, type: 'status', status: 'completed', is_complete: true } };
    })();
  };
  const url = `${base}/job-1/events`;
  const answer = await app.inject({ url, headers: bearer('viewer') });
  assert.equal(answer.headers['content-type'], 'text/event-stream');
  const frames = answer.body.trimEnd().split('\n\n');
  assert.deepEqual(
    frames.map((frame) => frame.split('\n')[0]?.slice(0, 14)),
    [': keep-alive', 'data: {"content'.slice(0, 14), 'id: 1.2.3', 'data: {"content'.slice(0, 14), 'data: [DONE]'],
  );
  await app.inject({ url: `${url}?after=1.1.0`, headers: bearer('viewer') });
  await app.inject({ url: `${url}?after=1.1.0`, headers: { ...bearer('viewer'), 'last-event-id': '1.2.3' } });
  assert.deepEqual(afters, [undefined, '1.1.0', '1.2.3']);
  jobs.events = async () => {
    throw new SallyportError('bad_cursor');
  };
  assert.equal((await app.inject({ url, headers: bearer('viewer') })).statusCode, 400);
  jobs.get = async () => info;
  assert.equal((await app.inject({ method: 'HEAD', url, headers: bearer('viewer') })).statusCode, 200);
  assert.equal(
    (await app.inject({ method: 'HEAD', url: `${url}?after=x`, headers: bearer('viewer') })).statusCode,
    400,
  );
  await app.close();
});
