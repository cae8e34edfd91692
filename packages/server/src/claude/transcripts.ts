import type { SessionStore, SessionStoreEntry } from '@anthropic-ai/claude-agent-sdk';
import type { TranscriptEntry, TranscriptKey, TranscriptStore } from '../engine/ports.ts';

/** The SDK's session store over ours, for one process. What is stored is always a whole beginning of the transcript. */
export interface TranscriptMirror {
  readonly sessionStore: SessionStore;
  /** True once an entry with this uuid is stored. */
  holds(uuid: string): boolean;
  /** Why the last append failed, null if it did not. For logs. */
  readonly failure: unknown;
  /** Drops every later append. */
  close(): void;
}

/**
 * Keys entries by tenant and session: the SDK's project key is a folded path, in which two projects can be the same.
 * The SDK repeats a failing append with the same array and then goes on with the next one. That would leave a hole, so
 * after a given-up append every other one is refused.
 */
export function createTranscriptMirror(store: TranscriptStore, tenant: string): TranscriptMirror {
  const stored = new Set<string>();
  let unsettled: readonly SessionStoreEntry[] | null = null;
  let broken = false;
  let closed = false;
  let failure: unknown = null;

  const keyOf = ({ sessionId, subpath }: { sessionId: string; subpath?: string }): TranscriptKey => ({
    tenant,
    session: sessionId,
    subpath: subpath ?? '',
  });

  async function append(key: TranscriptKey, entries: SessionStoreEntry[]): Promise<void> {
    if (closed) return;
    broken ||= unsettled !== null && unsettled !== entries;
    if (broken) throw new Error('an earlier append was given up');
    unsettled = entries;
    try {
      await store.append(key, entries);
    } catch (error) {
      failure = error;
      throw error;
    }
    unsettled = null;
    failure = null;
    for (const { uuid } of entries) if (uuid !== undefined) stored.add(uuid);
  }

  return {
    sessionStore: {
      append: (key, entries) => append(keyOf(key), entries),
      load: async (key) => {
        const entries = await store.load(keyOf(key));
        return entries as (TranscriptEntry & SessionStoreEntry)[] | null;
      },
      listSubkeys: ({ sessionId }) => store.subpaths(tenant, sessionId),
    },
    holds: (uuid) => stored.has(uuid),
    get failure() {
      return failure;
    },
    close() {
      closed = true;
    },
  };
}
