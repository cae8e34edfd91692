import type { StoredDelivery } from '../engine/ports.ts';

/** A message to a receiver of webhooks. */
export interface DeliveryTable {
  tenant: string;
  id: string;
  type: StoredDelivery['type'];
  /** Id of the job it tells of. */
  job: string;
  url: string;
  /** Name and port of the URL. */
  host: string;
  /** JSON, as it is sent. */
  body: string;
  state: StoredDelivery['state'];
  tries: number;
  /** Set while it is pending. While a try is under way: when it is due again if nobody notes how that ended. */
  due_at: number | null;
  status: number | null;
  problem: StoredDelivery['problem'];
  created_at: number;
  /** Set when it is not pending. */
  ended_at: number | null;
}

/** What webhooks of a tenant are signed with. Both secrets are sealed. */
export interface WebhookSecretTable {
  tenant: string;
  sealed: string;
  created_at: number;
  created_by: string;
  /** Set with `previous_until` or not at all. */
  previous: string | null;
  previous_until: number | null;
}
