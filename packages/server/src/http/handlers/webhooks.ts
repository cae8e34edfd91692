import type { WebhookAdmin } from '../../engine/webhook-admin.ts';
import type { Handlers } from '../routes.ts';

type WebhookOperation = 'listWebhookDeliveries' | 'redeliverWebhook' | 'webhookSecret' | 'rotateWebhookSecret';

/** What those who run the service do with webhooks. */
export function webhookHandlers(webhooks: WebhookAdmin): Pick<Handlers, WebhookOperation> {
  return {
    listWebhookDeliveries: ({ principal, query: { tenant, cursor, limit, state } }) =>
      webhooks.deliveries(principal, tenant, { cursor, limit, state }),
    redeliverWebhook: async ({ reply, principal, params, query }) =>
      reply.code(202).send(await webhooks.redeliver(principal, query.tenant, params.delivery_id)),
    webhookSecret: ({ principal, query }) => webhooks.secret(principal, query.tenant),
    rotateWebhookSecret: async ({ reply, principal, query, body }) =>
      reply.code(201).send(await webhooks.rotateSecret(principal, query.tenant, body.overlap)),
  };
}
