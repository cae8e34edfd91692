import { deepStrictEqual, match, ok, rejects, strictEqual } from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { aDelivery } from '../testing/webhook-stores.ts';
import { adminBench, master } from './admin-support.ts';
import { isoTime } from './clock.ts';
import { createWebhookAdmin } from './webhook-admin.ts';
import { createSecretBox, openSecrets } from './webhook-secrets.ts';

async function bench(t: TestContext) {
  const made = await adminBench(t);
  const clock = { now: () => made.now, monotonic: () => made.now };
  const box = createSecretBox(async () => 'k'.repeat(32));
  let nudges = 0;
  const webhooks = createWebhookAdmin({ ...made.stores, box, clock, nudge: () => void (nudges += 1) });
  await made.admin.createTenant(master, 'acme', null);
  return { made, webhooks, box, stores: made.stores, nudges: () => nudges };
}

test('a secret is shown when it is made and never again, and the one before signs too for a while', async (t) => {
  const { made, webhooks, box, stores } = await bench(t);
  const none = { tenant: 'default', created_at: null, created_by: null, previous_until: null };
  deepStrictEqual(await webhooks.secret(master, undefined), none);
  const { secret: first, ...firstInfo } = await webhooks.rotateSecret(master, undefined, 600);
  const at = made.now;
  match(first, /^whsec_/);
  deepStrictEqual(firstInfo, { ...none, created_at: isoTime(at), created_by: 'master' });
  deepStrictEqual(await webhooks.secret(master, undefined), firstInfo);
  made.now += 1000;
  const { secret: second, ...secondInfo } = await webhooks.rotateSecret(master, undefined, 600);
  const until = made.now + 600_000;
  deepStrictEqual(secondInfo, { ...firstInfo, created_at: isoTime(made.now), previous_until: isoTime(until) });
  const stored = await stores.webhookSecrets.get('default');
  deepStrictEqual(stored && (await openSecrets(box, 'default', stored, until - 1)), [second, first]);
  made.now = until;
  deepStrictEqual(await webhooks.secret(master, undefined), { ...secondInfo, previous_until: null });
  deepStrictEqual(stored && (await openSecrets(box, 'default', stored, until)), [second]);
  const kept = JSON.stringify([stored, await made.lines()]);
  for (const secret of [first, second]) ok(!kept.includes(secret.slice('whsec_'.length)));
});

test('an admin looks after the webhooks of every tenant, and each change has its line', async (t) => {
  const { made, webhooks, stores } = await bench(t);
  await stores.deliveries.add(aDelivery('hook-1', { tenant: 'acme' }));
  await webhooks.rotateSecret(master, 'acme', 60);
  strictEqual((await webhooks.secret(master, 'acme')).tenant, 'acme');
  strictEqual((await webhooks.secret(master, undefined)).created_at, null);
  strictEqual((await webhooks.redeliver(master, 'acme', 'hook-1')).delivery_id, 'hook-1');
  await rejects(webhooks.redeliver(master, undefined, 'hook-1'), { code: 'delivery_not_found' });
  const page = { cursor: undefined, limit: 10, state: undefined };
  for (const call of [
    webhooks.secret(master, 'nobody'),
    webhooks.rotateSecret(master, 'nobody', 60),
    webhooks.redeliver(master, 'nobody', 'hook-1'),
    webhooks.deliveries(master, 'nobody', page),
  ]) {
    await rejects(call, { code: 'tenant_not_found' });
  }
  const by = { actor_tenant: 'default' };
  deepStrictEqual(
    (await made.lines()).slice(1).map(({ action, tenant, subject, details }) => [action, tenant, subject, details]),
    [
      ['webhook.secret', 'acme', 'acme', { overlap: 60, ...by }],
      ['webhook.redeliver', 'acme', 'hook-1', by],
    ],
  );
});

test('webhooks are listed page by page, and one is redelivered at once', async (t) => {
  const { made, webhooks, stores, nudges } = await bench(t);
  const at = made.now;
  for (const index of [1, 2, 3])
    await stores.deliveries.add(aDelivery(`hook-${index}`, { createdAt: at - 10 + index }));
  const due = { now: at, until: at + 1000, exceptHosts: [], exceptTenants: [] };
  const taken = await stores.deliveries.take(due);
  await stores.deliveries.failed(taken!, { problem: 'status', status: 500 }, at, null);
  const request = { cursor: undefined, limit: 2, state: undefined };
  const { items, next_cursor: next } = await webhooks.deliveries(master, undefined, request);
  deepStrictEqual(
    items.map(({ delivery_id }) => delivery_id),
    ['hook-3', 'hook-2'],
  );
  const rest = await webhooks.deliveries(master, undefined, { ...request, cursor: next ?? '' });
  const dead = {
    delivery_id: 'hook-1',
    type: 'job.completed',
    job_id: 'job-1',
    url: aDelivery('x').url,
    state: 'dead',
    tries: 1,
    next_try_at: null,
    status: 500,
    problem: 'status',
    created_at: isoTime(at - 9),
    ended_at: isoTime(at),
  };
  deepStrictEqual(rest, { items: [dead], next_cursor: null });
  deepStrictEqual((await webhooks.deliveries(master, undefined, { ...request, state: 'dead' })).items, [dead]);
  await rejects(webhooks.deliveries(master, undefined, { ...request, cursor: 'x' }), { code: 'bad_cursor' });
  const again = { ...dead, state: 'pending', tries: 0, next_try_at: isoTime(at), ended_at: null };
  deepStrictEqual([await webhooks.redeliver(master, undefined, 'hook-1'), nudges()], [again, 1]);
});
