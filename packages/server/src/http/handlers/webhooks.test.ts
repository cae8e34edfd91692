import { deepStrictEqual, strictEqual } from 'node:assert/strict';
import { test } from 'node:test';
import { defaultBounds, operations, type Operation, type OperationId } from '@sallyport/protocol';
import type { InjectOptions } from 'fastify';
import { bearer, principalOf, testApp, type TestWebhooks } from '../testing.ts';

const table: Readonly<Record<OperationId, Operation>> = operations(defaultBounds);
const master = principalOf('admin');
const base = '/api/admin/webhooks';
const time = '2030-01-01T00:00:00.000Z';

const delivery = {
  delivery_id: 'hook-1',
  type: 'job.failed' as const,
  job_id: 'job-1',
  url: 'https://hooks.example.com/',
  state: 'pending' as const,
  tries: 1,
  next_try_at: time,
  status: null,
  problem: 'timeout' as const,
  created_at: time,
  ended_at: null,
};
const secret = { tenant: 'default', created_at: time, created_by: 'admin', previous_until: null };

/** A request, what the administration is asked then, and what it says to that. */
const cases: readonly [OperationId, InjectOptions, readonly [keyof TestWebhooks, ...unknown[]], unknown][] = [
  [
    'listWebhookDeliveries',
    { url: `${base}/deliveries` },
    ['deliveries', master, undefined, { cursor: undefined, limit: 50, state: undefined }],
    { items: [delivery], next_cursor: 'x' },
  ],
  [
    'listWebhookDeliveries',
    { url: `${base}/deliveries?tenant=acme&state=dead&cursor=x&limit=3` },
    ['deliveries', master, 'acme', { cursor: 'x', limit: 3, state: 'dead' }],
    { items: [], next_cursor: null },
  ],
  [
    'redeliverWebhook',
    { method: 'POST', url: `${base}/deliveries/hook-1/redeliver?tenant=acme` },
    ['redeliver', master, 'acme', 'hook-1'],
    delivery,
  ],
  ['webhookSecret', { url: `${base}/secret` }, ['secret', master, undefined], secret],
  [
    'rotateWebhookSecret',
    { method: 'POST', url: `${base}/secret`, payload: {} },
    ['rotateSecret', master, undefined, 86_400],
    { ...secret, secret: 'whsec_x' },
  ],
  [
    'rotateWebhookSecret',
    { method: 'POST', url: `${base}/secret?tenant=acme`, payload: { overlap: 0 } },
    ['rotateSecret', master, 'acme', 0],
    { ...secret, secret: 'whsec_x' },
  ],
];

for (const [id, request, [name, ...expected], says] of cases) {
  test(`${request.method ?? 'GET'} ${request.url as string} asks what is meant, and answers as it is declared`, async () => {
    const { app, webhooks } = await testApp();
    const calls: unknown[][] = [];
    Object.assign(webhooks, {
      [name]: async (...given: unknown[]) => {
        calls.push(given);
        return says;
      },
    });
    const response = await app.inject({ ...request, headers: bearer('admin') });
    strictEqual(response.statusCode, table[id].response.status, response.body);
    deepStrictEqual(calls, [expected]);
    deepStrictEqual(table[id].response.schema.parse(response.json()), says);
    await app.close();
  });
}

test('what is out of bounds is refused before anything is asked', async () => {
  const { app } = await testApp();
  const wrong: InjectOptions[] = [
    { url: `${base}/deliveries?state=lost` },
    { url: `${base}/deliveries?limit=0` },
    { url: `${base}/secret?tenant=` },
    { method: 'POST', url: `${base}/secret`, payload: { overlap: -1 } },
    { method: 'POST', url: `${base}/secret`, payload: { secret: 'whsec_own' } },
  ];
  for (const request of wrong) {
    const { statusCode, body } = await app.inject({ ...request, headers: bearer('admin') });
    strictEqual(statusCode, 422, body);
  }
  await app.close();
});
