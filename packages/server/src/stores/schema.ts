import type { TurnState } from '../engine/ports.ts';

/**
 * The tables, for every SQL database alike: ids are text, times are integers in milliseconds since 1970, JSON is text.
 * Every primary key begins with the tenant, so that no query can reach a row of another one by its id alone.
 */
export interface Schema {
  conversations: ConversationTable;
  turns: TurnTable;
  events: EventTable;
  transcripts: TranscriptTable;
  usage: UsageTable;
  write_checks: WriteCheckTable;
}

export interface ConversationTable {
  tenant: string;
  id: string;
  /** Name of the key that owns it. */
  key: string;
  kind: 'query' | 'conversation';
  /** `running` from the acceptance of a turn to its end. */
  status: 'idle' | 'running' | 'ended';
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
  state: TurnState;
  request: string;
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

/** One row, rewritten to find out whether the database takes writes. */
export interface WriteCheckTable {
  id: string;
  at: number;
}
