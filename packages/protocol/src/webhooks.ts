import { z } from 'zod';
import { pageQuery } from './conversation-shapes.ts';
import { json, type Operation } from './operation.ts';
import { timestamp } from './shapes.ts';

const base = '/api/admin/webhooks';

/** What a webhook tells. */
export const webhookTypes = ['job.completed', 'job.failed', 'job.cancelled'] as const;
export type WebhookType = (typeof webhookTypes)[number];

export const webhookStates = ['pending', 'delivered', 'dead'] as const;
export type WebhookState = (typeof webhookStates)[number];

/** Why a try did not succeed. */
export const webhookProblems = [
  'status',
  'timeout',
  'connection',
  'certificate',
  'unresolved',
  'address_refused',
  'unsigned',
  'interrupted',
] as const;
export type WebhookProblem = (typeof webhookProblems)[number];

/** The body of a webhook. */
export const webhookBody = z
  .object({
    type: z.enum(webhookTypes),
    timestamp: timestamp.describe('When it happened.'),
    data: z
      .record(z.string(), z.unknown())
      .describe('The job, as `GET /api/claude/jobs/{job_id}` gives it. With `truncated: true` where it is too large.'),
  })
  .meta({ id: 'WebhookBody' });

export const webhookDelivery = z
  .object({
    delivery_id: z.string().describe('Its `webhook-id`.'),
    type: z.enum(webhookTypes),
    job_id: z.string(),
    url: z.string(),
    state: z.enum(webhookStates).describe('`dead`: it was given up. It can be redelivered.'),
    tries: z.int().describe('Since it was made or redelivered.'),
    next_try_at: timestamp.nullable().describe('Null unless it is pending.'),
    status: z.int().nullable().describe('HTTP status of the last answer. Nothing else of an answer is kept.'),
    problem: z
      .enum(webhookProblems)
      .nullable()
      .describe(
        'What was wrong with the last try. `address_refused`: the name leads to an address that nothing is sent to; `unsigned`: the secret cannot be read with the key of this server.',
      ),
    created_at: timestamp,
    ended_at: timestamp.nullable(),
  })
  .meta({ id: 'WebhookDelivery' });
export type WebhookDeliveryInfo = z.output<typeof webhookDelivery>;

export const webhookSecretInfo = z
  .object({
    tenant: z.string(),
    created_at: timestamp.nullable().describe('Null: there is none, and jobs with a `webhook_url` are refused.'),
    created_by: z.string().nullable(),
    previous_until: timestamp.nullable().describe('Until then webhooks are signed with the previous secret too.'),
  })
  .meta({ id: 'WebhookSecretInfo' });
export type WebhookSecretInfo = z.output<typeof webhookSecretInfo>;

export const webhookSecret = webhookSecretInfo
  .extend({ secret: z.string().describe('`whsec_` and base64. It is never shown again.') })
  .meta({ id: 'WebhookSecret' });
export type WebhookSecretShown = z.output<typeof webhookSecret>;

const tenant = z.string().min(1).max(100).optional().describe("Default: the key's own.");
const ofTenant = z.strictObject({ tenant });

export const webhookRotation = z
  .strictObject({
    overlap: z
      .int()
      .min(0)
      .max(30 * 86_400)
      .default(86_400)
      .describe('Seconds for which webhooks are signed with the old secret too.'),
  })
  .meta({ id: 'WebhookRotation' });

/** The routes of webhooks: their secret, and what became of them. */
export const webhookOperations = {
  listWebhookDeliveries: {
    id: 'listWebhookDeliveries',
    method: 'GET',
    path: `${base}/deliveries`,
    summary: 'Lists the webhooks of a tenant, newest first',
    description: 'Those that wait, arrived or were given up. `next_cursor` gives the next page.',
    right: 'manage',
    query: pageQuery.extend({ tenant, state: z.enum(webhookStates).optional() }),
    response: json(
      z
        .object({ items: z.array(webhookDelivery), next_cursor: z.string().nullable() })
        .meta({ id: 'WebhookDeliveryList' }),
      'One page.',
    ),
    errors: ['tenant_not_found', 'bad_cursor'],
  },
  redeliverWebhook: {
    id: 'redeliverWebhook',
    method: 'POST',
    path: `${base}/deliveries/{delivery_id}/redeliver`,
    summary: 'Sends a webhook again',
    description: 'At once, with the same `webhook-id` and body, and from then on as if it were new.',
    right: 'manage',
    params: z.strictObject({ delivery_id: z.string().min(1).max(100) }),
    query: ofTenant,
    response: json(webhookDelivery, 'It will be sent.', 202),
    errors: ['tenant_not_found', 'delivery_not_found', 'storage_full'],
  },
  webhookSecret: {
    id: 'webhookSecret',
    method: 'GET',
    path: `${base}/secret`,
    summary: 'Says when the webhook secret of a tenant was made',
    description: 'Never the secret itself.',
    right: 'manage',
    query: ofTenant,
    response: json(webhookSecretInfo, 'What is known of it.'),
    errors: ['tenant_not_found'],
  },
  rotateWebhookSecret: {
    id: 'rotateWebhookSecret',
    method: 'POST',
    path: `${base}/secret`,
    summary: 'Makes or rotates the webhook secret of a tenant',
    description:
      'It is in the answer and is never shown again. The old one signs too for `overlap` seconds; an older one does not any more.',
    right: 'manage',
    query: ofTenant,
    body: webhookRotation,
    response: json(webhookSecret, 'The new secret.', 201),
    errors: ['tenant_not_found', 'storage_full'],
  },
} as const satisfies Record<string, Operation>;
