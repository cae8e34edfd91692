import type { StoredJob } from '../engine/ports.ts';

/** A query that runs in the background. */
export interface JobTable {
  tenant: string;
  id: string;
  /** Name of the key that owns it. */
  key: string;
  /** JSON. */
  request: string;
  priority: number;
  run_at: number;
  attempts: number;
  webhook_url: string | null;
  created_at: number;
  status: StoredJob['status'];
  attempt: number;
  /** The node that runs it; null unless it runs. */
  node: string | null;
  /** Of the attempt. It may not be there yet, or not any more. */
  conversation: string | null;
  /** 1: the conversation is there, or was. */
  begun: 0 | 1;
  /** 1: its run is to be stopped. */
  cancelling: 0 | 1;
  error: string | null;
  code: string | null;
  started_at: number | null;
  /** Set exactly once. */
  ended_at: number | null;
  /** Of the request that made it, with its hash; null without one, and when it was used again after its time. */
  idempotency_key: string | null;
  claim_hash: string | null;
  claim_expires_at: number | null;
}
