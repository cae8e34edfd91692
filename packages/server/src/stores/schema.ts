import type { ApprovalStatus, KeyRecord, StoredConversation, TurnState } from '../engine/ports.ts';
import type { JobTable } from './schema-jobs.ts';
import type { KeptPlaceTable, NodeTable } from './schema-nodes.ts';
import type { DeliveryTable, WebhookSecretTable } from './schema-webhooks.ts';

/**
 * The tables, for every SQL database alike: ids are text, times are integers in milliseconds since 1970, JSON is text.
 * Every primary key begins with the tenant, so that no query can reach a row of another one by its id alone; but the audit
 * log and the stops are one for all of them.
 */
export interface Schema {
  conversations: ConversationTable;
  turns: TurnTable;
  events: EventTable;
  claims: ClaimTable;
  approvals: ApprovalTable;
  images: ImageTable;
  tickets: TicketTable;
  transcripts: TranscriptTable;
  usage: UsageTable;
  usage_days: UsageDayTable;
  reservations: ReservationTable;
  keys: KeyTable;
  key_secrets: KeySecretTable;
  tenants: TenantTable;
  stops: StopTable;
  audit: AuditTable;
  audit_head: AuditHeadTable;
  deliveries: DeliveryTable;
  webhook_secrets: WebhookSecretTable;
  jobs: JobTable;
  nodes: NodeTable;
  kept_place: KeptPlaceTable;
  write_checks: WriteCheckTable;
}

export interface ConversationTable {
  tenant: string;
  id: string;
  /** Name of the key that owns it. */
  key: string;
  kind: StoredConversation['kind'];
  /** `running` or `waiting` from the acceptance of a turn to its end. */
  status: StoredConversation['status'];
  /** Raised with every turn and every takeover; a write that names another one is refused. */
  epoch: number;
  /** `seq` of the last event, 0 when there is none. */
  last_seq: number;
  profile: string;
  limits: string;
  sdk_session: string;
  metadata: string;
  created_at: number;
  last_active_at: number;
}

export interface TurnTable {
  tenant: string;
  id: string;
  conversation: string;
  /** The conversation's epoch while the turn has no end. */
  epoch: number;
  /** Whose it is, or was at its end; in no list of nodes: nobody's. */
  node: string;
  /** 1: somebody wants it stopped. */
  stop_asked: 0 | 1;
  state: TurnState;
  request: string;
  /** Batches of tool calls. */
  batches: number;
  /** Milliseconds that counted toward its timeout. */
  active_ms: number;
  result: string | null;
  code: string | null;
  accepted_at: number;
  started_at: number | null;
  /** Set exactly once. */
  ended_at: number | null;
}

export interface EventTable {
  tenant: string;
  conversation: string;
  seq: number;
  turn: string;
  at: number;
  type: string;
  /** The whole body, its type included. */
  payload: string;
}

/** The turn under an `Idempotency-Key`. */
export interface ClaimTable {
  tenant: string;
  /** Name of the key that sent it. */
  key: string;
  idempotency_key: string;
  /** Hash of the whole request. */
  hash: string;
  turn: string;
  expires_at: number;
}

export interface ApprovalTable {
  tenant: string;
  id: string;
  conversation: string;
  turn: string;
  tool_use_id: string;
  /** Name of the key that owns the conversation. */
  key: string;
  /** JSON of what is asked: kind, tool, input with its hash, diff and reason. */
  call: string;
  status: ApprovalStatus;
  created_at: number;
  expires_at: number;
  decided_at: number | null;
  decided_by: string | null;
  /** JSON, when a human decided. */
  decision: string | null;
}

export interface ImageTable {
  tenant: string;
  conversation: string;
  path: string;
  /** JSON of the text or of null, which any database keeps whatever the file holds. */
  before: string;
  after: string;
  /** 1: `after` is what the last turn left. */
  settled: 0 | 1;
}

export interface TicketTable {
  tenant: string;
  /** Of the ticket, which itself is not kept. Finds it without a tenant, as it stands for one. */
  hash: string;
  /** Name of the key it stands for. */
  key: string;
  /** Of the secret of the key that it stands for; null: any. */
  secret_hash: string | null;
  expires_at: number;
}

export interface TranscriptTable {
  tenant: string;
  session: string;
  /** Empty for the session's main transcript. */
  subpath: string;
  /** Order of append within (tenant, session, subpath). */
  position: number;
  uuid: string | null;
  entry: string;
}

export interface UsageTable {
  tenant: string;
  id: string;
  conversation: string;
  turn: string;
  epoch: number;
  key: string;
  at: number;
  model: string;
  input_tokens: number;
  output_tokens: number;
  cache_read_tokens: number;
  cache_write_tokens: number;
  cost_usd: number | null;
  status: number;
  duration_ms: number;
}

/** What the calls of `usage` come to, kept up with them. */
export interface UsageDayTable {
  tenant: string;
  key: string;
  /** Of UTC, as `2026-11-21`. */
  day: string;
  model: string;
  calls: number;
  input_tokens: number;
  output_tokens: number;
  cache_read_tokens: number;
  cache_write_tokens: number;
  /** Of the calls whose price is known. */
  cost_usd: number;
  unpriced_calls: number;
}

/** What a turn has reserved of budgets; the turn may not be accepted yet. */
export interface ReservationTable {
  tenant: string;
  turn: string;
  conversation: string;
  key: string;
  /** What is left of it, never negative. */
  usd: number;
  /** Which node reserved it. */
  node: string;
}

/** A key that was made while the service ran. */
export interface KeyTable {
  tenant: string;
  name: string;
  role: KeyRecord['role'];
  /** JSON. */
  narrowing: string | null;
  created_at: number;
  created_by: string;
  expires_at: number | null;
  revoked_at: number | null;
  /** Until when its secret that is not current is valid. */
  previous_until: number | null;
  /** When it was changed, rotated or revoked last. */
  changed_at: number | null;
}

/** The secrets of a key, which themselves are not kept: the current one, and the one before the last rotation. */
export interface KeySecretTable {
  tenant: string;
  key: string;
  current: 0 | 1;
  /** One of all tenants. Finds the key without a tenant, as it names one. */
  hash: string;
}

export interface TenantTable {
  id: string;
  created_at: number;
  /** JSON. */
  budgets: string | null;
}

/** A stop may be of all tenants: it has none then, and so its id alone names it. */
export interface StopTable {
  id: string;
  tenant: string | null;
  key: string | null;
  conversation: string | null;
  reason: string;
  created_at: number;
  created_by: string;
}

/** Rows are never changed or deleted. */
export interface AuditTable {
  /** From 1, over all tenants. */
  seq: number;
  at: number;
  tenant: string;
  actor: string;
  action: string;
  /** Set with `turn` or not at all; kept when the conversation is deleted. */
  conversation: string | null;
  turn: string | null;
  subject: string | null;
  /** JSON. */
  details: string;
  /** Over the hash of the row before and this one. */
  hash: string;
}

/** One row: the place and hash of the last line. Whoever appends locks it first. */
export interface AuditHeadTable {
  id: string;
  seq: number;
  hash: string;
}

/** One row, rewritten to find out whether the database takes writes. */
export interface WriteCheckTable {
  id: string;
  at: number;
}
