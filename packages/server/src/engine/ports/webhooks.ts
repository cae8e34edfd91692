import type { WebhookProblem, WebhookState, WebhookType } from '@sallyport/protocol';
import type { AuditEntry } from './guard.ts';

/** A message to a receiver. What is signed and sent never changes, however often it is tried. */
export interface NewDelivery {
  readonly tenant: string;
  /** Its `webhook-id`, by which receivers find out that they have it already. */
  readonly id: string;
  readonly type: WebhookType;
  /** What it tells of: the id of a job. */
  readonly job: string;
  readonly url: string;
  /** JSON, as it is sent. */
  readonly body: string;
  readonly createdAt: number;
}

/** How a try that did not succeed ended. */
export interface FailedTry {
  readonly problem: WebhookProblem;
  /** Status of the answer; null when there was none. */
  readonly status: number | null;
}

/** A message as it stands. */
export interface StoredDelivery extends NewDelivery {
  readonly state: WebhookState;
  /** Tries that were begun, since it was made or redelivered. */
  readonly tries: number;
  /** When it is tried next; null unless it is pending. */
  readonly dueAt: number | null;
  /** Status of the last answer; null when the last try got none. */
  readonly status: number | null;
  /** What was wrong with the last try; null when there was none, or nothing was wrong. */
  readonly problem: WebhookProblem | null;
  /** When it was delivered or given up; null while it is pending. */
  readonly endedAt: number | null;
}

/** Which message is taken to be sent. */
export interface DueDelivery {
  readonly now: number;
  /** When it is due again unless it is noted before how the try ended: whoever takes it may be killed. */
  readonly until: number;
  /** Those to these hosts are left. */
  readonly exceptHosts: readonly string[];
  /** Those of these tenants are left. */
  readonly exceptTenants: readonly string[];
}

/** Which messages are listed. */
export interface DeliveryFilter {
  readonly tenant: string;
  /** Null: in every state. */
  readonly state: WebhookState | null;
  /** Only those before this place of the order; null: from the newest. */
  readonly before: { readonly createdAt: number; readonly id: string } | null;
  readonly limit: number;
}

/** Messages to receivers. They are made in the transaction of what they tell of. */
export interface DeliveryStore {
  /** Keeps a message that is due at once. One whose id the tenant has is there already. */
  add(delivery: NewDelivery): Promise<void>;
  /** The message that has been due the longest, of any tenant, for one try; null when there is none. Nobody else gets it before `until`. */
  take(due: DueDelivery): Promise<StoredDelivery | null>;
  /** Notes that it has arrived. Nothing when it is not pending any more. */
  delivered(delivery: StoredDelivery, status: number, at: number): Promise<void>;
  /**
   * Notes how the try failed that was taken as `delivery`, and when it is due next; null: it is given up. Nothing when it
   * is not pending any more, or was taken again meanwhile.
   */
  failed(delivery: StoredDelivery, failure: FailedTry, at: number, dueAt: number | null): Promise<void>;
  /** Newest first, by creation. */
  list(filter: DeliveryFilter): Promise<StoredDelivery[]>;
  /** Makes it due now and counts its tries anew, whatever its state. Null when the tenant has none of this id. */
  redeliver(tenant: string, id: string, now: number, audit: AuditEntry): Promise<StoredDelivery | null>;
  /** Deletes up to `limit` messages that ended before a time, and gives how many. */
  sweep(before: number, limit: number): Promise<number>;
}

/** The secrets that messages of a tenant are signed with, each sealed. */
export interface WebhookSecrets {
  readonly sealed: string;
  readonly createdAt: number;
  readonly createdBy: string;
  /** The one before the last rotation, with which it is signed too until then. */
  readonly previous: { readonly sealed: string; readonly until: number } | null;
}

export interface WebhookSecretStore {
  /** Null when the tenant has none. */
  get(tenant: string): Promise<WebhookSecrets | null>;
  /** Sets another secret; the one there was is the previous one until then, and an older one is gone. */
  rotate(
    tenant: string,
    secret: Pick<WebhookSecrets, 'sealed' | 'createdAt' | 'createdBy'>,
    previousUntil: number,
    audit: AuditEntry,
  ): Promise<WebhookSecrets>;
}

/** What is sent at once: a body with its own headers. */
export interface WebhookRequest {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** How one sending ended: with an answer, whatever its status, or without. */
export type WebhookAnswer =
  | { readonly status: number; readonly retryAfter: string | undefined }
  | { readonly status: null; readonly problem: Exclude<WebhookProblem, 'status' | 'unsigned'> };

/** Sends to the addresses that clients name, and to no others: not to what only the service can reach. */
export interface WebhookSender {
  /** Why nothing is ever sent to an address, in words that complete "The address …"; null when it is tried. Asks nobody. */
  refusal(url: string): string | null;
  /** Sends once and follows nothing. Never rejects. An aborted one ends as `interrupted`. */
  send(request: WebhookRequest, signal: AbortSignal): Promise<WebhookAnswer>;
}
