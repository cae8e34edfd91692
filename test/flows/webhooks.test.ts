import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { admin, administer, auditLines, makeTenant } from '../support/admin.ts';
import { call } from '../support/approvals.ts';
import { jobEnded, queueJob } from '../support/jobs.ts';
import { startReceiver, toLoopback, verified, type Receiver } from '../support/receiver.ts';
import { restartable } from '../support/restart.ts';
import { answerOf, scripted, until } from '../support/runs.ts';
import { masterKey, startService, unlimited, upstreamKey, userKey, type TestService } from '../support/service.ts';
import { change } from '../support/stored.ts';

const limit = { timeout: 120_000 };

let service: TestService;
let receiver: Receiver;
/** Where a request of a receiver must never lead. */
let metadata: Receiver;
let secret: string;

before(async () => {
  metadata = await startReceiver((response) => response.end());
  receiver = await startReceiver((response, path, count) => {
    if (path === '/redirect') response.writeHead(307, { location: `${metadata.url}/latest/meta-data/` }).end();
    else if (path === '/gone' && count === 1) response.writeHead(410).end();
    else if (path === '/later' && count === 1) response.writeHead(500).end('no');
    else if (path !== '/hang') response.writeHead(204).end();
  });
  service = await startService({ env: toLoopback });
  secret = (await administer(service, 'POST', 'webhooks/secret', {}))['secret'] as string;
});
after(async () => {
  await service.close();
  receiver.close();
  metadata.close();
});

/** Queues a job that tells a path of the receiver of its end. */
const queue = (path: string, part: object = {}) =>
  queueJob(service, {
    request: { prompt: scripted([{ text: 'Done.' }]) },
    webhook_url: `${receiver.url}${path}`,
    ...part,
  });

async function deliveryOf(job: string): Promise<Record<string, any>> {
  const { items } = await administer(service, 'GET', 'webhooks/deliveries?limit=200');
  return (items as Record<string, any>[]).find(({ job_id }) => job_id === job) ?? {};
}

const stateOf = async (job: string) => (await deliveryOf(job))['state'];

test('a job that ends tells its receiver, signed, what its client reads', limit, async () => {
  const { job_id: id } = await queue('/completed');
  const job = await jobEnded(service, id);
  const [got] = await receiver.at('/completed');
  assert.ok(got);
  const { type, data, timestamp } = verified(got, secret);
  assert.deepEqual([type, data], ['job.completed', job]);
  assert.equal(answerOf(data['result']), 'Done.');
  assert.ok(Date.parse(timestamp as string) >= Date.parse(job['created_at'] as string));
  assert.throws(() => verified({ ...got, body: got.body.replace('Done.', 'Gone.') }, secret), /it is signed/);
  await until(async () => (await stateOf(id)) === 'delivered');
  const { delivery_id, status, tries, problem } = await deliveryOf(id);
  assert.deepEqual([delivery_id, status, tries, problem], [got.headers['webhook-id'], 204, 1, null]);
  assert.equal(receiver.received.filter(({ path }) => path === '/completed').length, 1);
});

test('a job that is cancelled tells it too', limit, async () => {
  const { job_id: id } = await queue('/cancelled', { run_at: new Date(Date.now() + 3_600_000).toISOString() });
  await call(service, 'DELETE', `jobs/${id}`);
  const [got] = await receiver.at('/cancelled');
  assert.ok(got);
  const { type, data } = verified(got, secret);
  assert.deepEqual([type, data.job_id, data.status, data.result], ['job.cancelled', id, 'cancelled', null]);
});

test(
  'a receiver that fails is told again, one that hangs holds up nobody, one that redirects leads nowhere',
  limit,
  async () => {
    const hanging = await queue('/hang');
    const redirected = await queue('/redirect');
    const { job_id: id } = await queue('/later');
    await receiver.at('/hang');
    await until(async () => (await deliveryOf(redirected['job_id']))['status'] === 307);
    const { state, problem, next_try_at } = await deliveryOf(redirected['job_id']);
    assert.deepEqual([state, problem, typeof next_try_at], ['pending', 'status', 'string']);
    const [first, second] = await receiver.at('/later', 2);
    assert.ok(first && second);
    assert.equal(first.headers['webhook-id'], second.headers['webhook-id']);
    assert.equal(first.body, second.body);
    assert.deepEqual(verified(second, secret), verified(first, secret));
    await until(async () => (await stateOf(id)) === 'delivered');
    assert.equal((await deliveryOf(id))['tries'], 2);
    assert.equal(await stateOf(hanging['job_id']), 'pending');
    assert.equal(metadata.received.length, 0);
  },
);

test('what was given up is a dead letter, and is redelivered under the same id', limit, async () => {
  const { job_id: id } = await queue('/gone');
  await until(async () => (await stateOf(id)) === 'dead');
  const { delivery_id, status, ended_at } = await deliveryOf(id);
  assert.deepEqual([status, typeof ended_at], [410, 'string']);
  const dead = await administer(service, 'GET', 'webhooks/deliveries?state=dead');
  assert.ok(dead['items'].some((one: { job_id: string }) => one.job_id === id));
  const again = await administer(service, 'POST', `webhooks/deliveries/${delivery_id}/redeliver`);
  assert.deepEqual([again['state'], again['tries']], ['pending', 0]);
  const [first, second] = await receiver.at('/gone', 2);
  assert.ok(first && second);
  assert.deepEqual([second.headers['webhook-id'], second.body], [first.headers['webhook-id'], first.body]);
  await until(async () => (await stateOf(id)) === 'delivered');
  const unknown = await admin(service, 'POST', 'webhooks/deliveries/hook-unknown/redeliver');
  assert.deepEqual([unknown.status, unknown.body['code']], [404, 'delivery_not_found']);
});

test('a rotated secret signs beside the new one, for as long as was asked', limit, async () => {
  const old = secret;
  secret = (await administer(service, 'POST', 'webhooks/secret', { overlap: 3600 }))['secret'] as string;
  await queue('/both');
  const [both] = await receiver.at('/both');
  assert.ok(both);
  assert.deepEqual(verified(both, old), verified(both, secret));
  assert.equal(String(both.headers['webhook-signature']).split(' ').length, 2);
  const between = secret;
  secret = (await administer(service, 'POST', 'webhooks/secret', { overlap: 0 }))['secret'] as string;
  await queue('/one');
  const [one] = await receiver.at('/one');
  assert.ok(one && verified(one, secret));
  for (const gone of [old, between]) assert.throws(() => verified(one, gone), /it is signed/);
});

test('a webhook that could never be sent is refused with the job, and secrets are seen nowhere', limit, async () => {
  const request = { prompt: scripted([{ text: 'No.' }]) };
  const other = await makeTenant(service, 'acme');
  const asked = async (webhook_url: string, key = userKey) => {
    const { status, body } = await call(service, 'POST', 'jobs', { request, webhook_url }, key);
    return [status, body['code']];
  };
  for (const url of ['https://169.254.169.254/', 'http://10.0.0.1/', 'https://[::1]/', 'https://127.0.0.2/']) {
    assert.deepEqual(await asked(url), [422, 'webhook_url_refused'], url);
  }
  assert.deepEqual(await asked('https://hooks.example.com/', other), [409, 'webhook_secret_missing']);
  await administer(service, 'POST', 'webhooks/secret?tenant=acme', {});
  assert.equal((await asked(`${receiver.url}/acme`, other))[0], 202);
  const [told] = await receiver.at('/acme');
  assert.ok(told);
  assert.throws(() => verified(told, secret), /it is signed/, 'each tenant has a secret of its own');
  const { body: info } = await admin(service, 'GET', 'webhooks/secret');
  assert.deepEqual(Object.keys(info).toSorted(), ['created_at', 'created_by', 'previous_until', 'tenant']);
  const files = ['sallyport.db', 'sallyport.db-wal'].map((name) => readFile(join(service.dataDir, name), 'latin1'));
  const database = (await Promise.all(files)).join();
  const seen = JSON.stringify([service.logs, await auditLines(service), receiver.received]);
  for (const part of [secret.slice('whsec_'.length), masterKey, upstreamKey]) {
    assert.ok(!seen.includes(part) && !database.includes(part));
  }
  const lines = (await auditLines(service)).filter(({ action }) => String(action).startsWith('webhook.'));
  assert.ok(lines.length >= 4);
});

test('a job whose attempts are used up tells that it has failed, once and signed', limit, async () => {
  service.simulator.play(() => ({ fault: { kind: 'refuse' } }));
  const { job_id: id } = await queue('/failed', { request: { prompt: 'nothing answers' }, attempts: 2 });
  const job = await jobEnded(service, id);
  assert.deepEqual([job['status'], job['code'], job['attempt']], ['failed', 'upstream_error', 2], JSON.stringify(job));
  const [got] = await receiver.at('/failed');
  assert.ok(got);
  const { type, data } = verified(got, secret);
  assert.deepEqual([type, data], ['job.failed', job]);
  await until(async () => (await stateOf(id)) === 'delivered');
  assert.equal((await deliveryOf(id))['tries'], 1);
  // An attempt that is followed by another one is no end.
  assert.equal(receiver.received.filter(({ path }) => path === '/failed').length, 1);
});

test('a service that is killed before it knows that a webhook arrived sends it again', limit, async (context) => {
  const own = await startReceiver((response, _, count) => {
    if (count > 1) response.end();
  });
  context.after(() => own.close());
  const restarted = await restartable(context, { env: { ...toLoopback, ...unlimited } });
  const { secret: made } = await administer(restarted, 'POST', 'webhooks/secret', {});
  const request = { prompt: scripted([{ text: 'Done.' }]) };
  await call(restarted, 'POST', 'jobs', { request, webhook_url: `${own.url}/in` });
  const [first] = await own.at('/in');
  await restarted.kill();
  change(restarted, 'update deliveries set due_at = 0 where state = ?', 'pending'); // its lease is over
  await restarted.start();
  const [, second] = await own.at('/in', 2);
  assert.ok(first && second);
  assert.deepEqual([second.headers['webhook-id'], second.body], [first.headers['webhook-id'], first.body]);
  assert.equal(verified(second, made as string)['type'], 'job.completed');
  await until(async () => {
    const { items } = await administer(restarted, 'GET', 'webhooks/deliveries');
    return (items as { state: string; tries: number }[]).every(
      ({ state, tries }) => state === 'delivered' && tries === 2,
    );
  });
});
