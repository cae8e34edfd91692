import type { WebhookDeliveryInfo, WebhookSecretInfo, WebhookSecretShown, WebhookState } from '@sallyport/protocol';
import { auditOfAdmin } from './admin-audit.ts';
import { isoTime, type Clock } from './clock.ts';
import { fromCursor, pageOf } from './conversations.ts';
import { SallyportError } from './errors.ts';
import { newWebhookSecret } from './ids.ts';
import type { DeliveryStore, StoredDelivery, TenantStore, WebhookSecrets, WebhookSecretStore } from './ports.ts';
import type { Principal } from './principal.ts';
import { requireTenant } from './tenant-admin.ts';
import type { SecretBox } from './webhook-secrets.ts';

/** Which webhooks are listed. */
export interface DeliveriesRequest {
  readonly cursor: string | undefined;
  readonly limit: number;
  readonly state: WebhookState | undefined;
}

/**
 * What those who run the service do with webhooks. A tenant that is undefined is the principal's own. Every function
 * rejects with `tenant_not_found`. Every change is in the audit log, in the same transaction.
 */
export interface WebhookAdmin {
  /** Newest first. Rejects with `bad_cursor`. */
  deliveries(
    principal: Principal,
    tenant: string | undefined,
    request: DeliveriesRequest,
  ): Promise<{ items: WebhookDeliveryInfo[]; next_cursor: string | null }>;
  /** Has it sent again at once. Rejects with `delivery_not_found`. */
  redeliver(principal: Principal, tenant: string | undefined, id: string): Promise<WebhookDeliveryInfo>;
  /** What is known of the secret, without it. */
  secret(principal: Principal, tenant: string | undefined): Promise<WebhookSecretInfo>;
  /** Makes another secret; the one there is signs too for `overlap` seconds. */
  rotateSecret(principal: Principal, tenant: string | undefined, overlap: number): Promise<WebhookSecretShown>;
}

export interface WebhookAdminParts {
  readonly tenants: TenantStore;
  readonly deliveries: Pick<DeliveryStore, 'list' | 'redeliver'>;
  readonly webhookSecrets: WebhookSecretStore;
  readonly box: Pick<SecretBox, 'seal'>;
  readonly clock: Clock;
  /** Called when a webhook is due. */
  readonly nudge: () => void;
}

const timeOf = (at: number | null): string | null => (at === null ? null : isoTime(at));

function deliveryInfo(delivery: StoredDelivery): WebhookDeliveryInfo {
  const { id, job, type, url, state, tries, status, problem } = delivery;
  return {
    delivery_id: id,
    type,
    job_id: job,
    url,
    state,
    tries,
    next_try_at: timeOf(delivery.dueAt),
    status,
    problem,
    created_at: isoTime(delivery.createdAt),
    ended_at: timeOf(delivery.endedAt),
  };
}

function secretInfo(tenant: string, secrets: WebhookSecrets | null, now: number): WebhookSecretInfo {
  const until = secrets?.previous?.until ?? null;
  return {
    tenant,
    created_at: timeOf(secrets?.createdAt ?? null),
    created_by: secrets?.createdBy ?? null,
    previous_until: until !== null && until > now ? isoTime(until) : null,
  };
}

/** Administers webhooks over their stores. */
export function createWebhookAdmin(parts: WebhookAdminParts): WebhookAdmin {
  const { tenants, deliveries, webhookSecrets, box, clock, nudge } = parts;
  const tenantOf = async (principal: Principal, tenant: string | undefined): Promise<string> =>
    tenant === undefined ? principal.tenant : (await requireTenant(tenants, tenant)).id;
  return {
    async deliveries(principal, named, { cursor, limit, state }) {
      const tenant = await tenantOf(principal, named);
      const before = cursor === undefined ? null : fromCursor(cursor);
      const rows = await deliveries.list({ tenant, state: state ?? null, before, limit });
      return pageOf(rows, limit, deliveryInfo);
    },

    async redeliver(principal, named, id) {
      const tenant = await tenantOf(principal, named);
      const at = clock.now();
      const act = { at, tenant, action: 'webhook.redeliver', subject: id, details: {} };
      const due = await deliveries.redeliver(tenant, id, at, auditOfAdmin(principal, act));
      if (due === null) throw new SallyportError('delivery_not_found');
      nudge();
      return deliveryInfo(due);
    },

    async secret(principal, named) {
      const tenant = await tenantOf(principal, named);
      return secretInfo(tenant, await webhookSecrets.get(tenant), clock.now());
    },

    async rotateSecret(principal, named, overlap) {
      const tenant = await tenantOf(principal, named);
      const secret = newWebhookSecret();
      const sealed = await box.seal(tenant, secret);
      const createdAt = clock.now();
      const until = createdAt + overlap * 1000;
      const details = { overlap };
      const act = { at: createdAt, tenant, action: 'webhook.secret', subject: tenant, details };
      const made = { sealed, createdAt, createdBy: principal.key };
      const stored = await webhookSecrets.rotate(tenant, made, until, auditOfAdmin(principal, act));
      return { ...secretInfo(tenant, stored, createdAt), secret };
    },
  };
}
