import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { administer, makeKey, makeTenant } from '../support/admin.ts';
import { call, decide, pendingIn } from '../support/approvals.ts';
import { jobEnded, jobOf, queueJob } from '../support/jobs.ts';
import { callsWith, scripted, until } from '../support/runs.ts';
import { masterKey, startService, type TestService } from '../support/service.ts';

const limit = { timeout: 120_000 };
const long = scripted([{ text: 'One word after the other. '.repeat(200), rate: 20 }]);
const writing = scripted([
  { tools: [{ name: 'Write', input: { file_path: '/workspace/a.txt', content: 'a' } }] },
  { text: 'Written.' },
]);

let service: TestService;
before(async () => {
  service = await startService({ env: { SALLYPORT_JOBS_AT_ONCE: '1' } });
});
after(() => service.close());

/** Holds the only place until the given work is done. */
async function holding(work: () => Promise<void>): Promise<void> {
  const { job_id: id } = await queueJob(service, { request: { prompt: writing, timeout: 300 } });
  await until(async () => (await jobOf(service, id))['session_id'] !== null);
  const approval = await pendingIn(service, (await jobOf(service, id))['session_id']);
  await work();
  await decide(service, approval, { decision: 'allow' });
  assert.equal((await jobEnded(service, id))['status'], 'completed');
}

const wordy = (word: string) => ({ request: { prompt: scripted([{ text: 'Never.' }], word) }, attempts: 5 });

test('a job runs with what its key may do when it begins', limit, async () => {
  const revoked = await makeKey(service, { name: 'revoked' });
  const narrowed = await makeKey(service, { name: 'narrowed' });
  const stopped = await makeKey(service, { name: 'stopped' });
  const broke = await makeKey(service, { name: 'broke' });
  const ids: string[] = [];
  let stop = '';
  await holding(async () => {
    for (const key of [revoked, narrowed, stopped, broke]) {
      ids.push((await queueJob(service, wordy('without-right'), key))['job_id']);
    }
    await administer(service, 'DELETE', 'tenants/default/keys/revoked');
    await administer(service, 'PATCH', 'tenants/default/keys/narrowed', {
      narrowing: { permission_modes: ['readOnly'] },
    });
    const made = await administer(service, 'POST', 'stops', {
      scope: 'key',
      tenant: 'default',
      key: 'stopped',
      reason: 'a drill',
    });
    stop = made['stop_id'];
  });
  const ended = await Promise.all(ids.slice(0, 3).map((id) => endOf(id)));
  assert.deepEqual(ended, ['failed invalid_key 1', 'failed mode_not_allowed 1', 'failed stopped 1']);
  await endOf(ids[3] ?? '');
  assert.equal(callsWith(service, 'without-right').length, 1);
  await administer(service, 'DELETE', `stops/${stop}`);
});

async function endOf(id: string): Promise<string> {
  const { status, code, attempt } = await jobEnded(service, id, masterKey);
  return `${status} ${code} ${attempt}`;
}

test('a running job ends with its key, and says so', limit, async () => {
  const key = await makeKey(service, { name: 'gone' });
  const { job_id: id } = await queueJob(service, { request: { prompt: `${long} key-gone` } }, key);
  await until(() => callsWith(service, 'key-gone').length === 1);
  await administer(service, 'DELETE', 'tenants/default/keys/gone');
  assert.equal(await endOf(id), 'failed invalid_key 1');
});

test('a running job is stopped by an admin, and says so', limit, async () => {
  const { job_id: id } = await queueJob(service, { request: { prompt: `${long} admin-stop` }, attempts: 5 });
  await until(() => callsWith(service, 'admin-stop').length === 1);
  const made = await administer(service, 'POST', 'stops', { scope: 'tenant', tenant: 'default', reason: 'a drill' });
  assert.equal(await endOf(id), 'failed stopped 1');
  const refused = await call(service, 'POST', 'jobs', wordy('no'));
  assert.deepEqual([refused.status, refused.body['code']], [403, 'stopped']);
  await administer(service, 'DELETE', `stops/${made['stop_id']}`);
});

test('jobs of another tenant are unknown, and take turns with those of this one', limit, async () => {
  const theirs = await makeTenant(service, 'other');
  const ids: string[] = [];
  let other = '';
  await holding(async () => {
    for (let job = 0; job < 3; job += 1) ids.push((await queueJob(service, wordy('turns')))['job_id']);
    other = (await queueJob(service, { ...wordy('turns'), priority: 0 }, theirs))['job_id'];
  });
  for (const [method, path] of [
    ['GET', `jobs/${other}`],
    ['DELETE', `jobs/${other}`],
    ['GET', `jobs/${other}/events`],
  ] as const) {
    const { status, body } = await call(service, method, path, undefined, masterKey);
    assert.deepEqual([status, body['code']], [404, 'job_not_found'], path);
  }
  const job = await jobEnded(service, other, theirs);
  const own = await Promise.all(ids.map((id) => jobEnded(service, id)));
  const before = own.filter(({ started_at: at }) => at < job['started_at']);
  assert.ok(before.length <= 1, `${before.length} of 3 came first`);
});
