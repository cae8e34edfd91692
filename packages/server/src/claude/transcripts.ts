import type { SessionStore, SessionStoreEntry } from '@anthropic-ai/claude-agent-sdk';
import type { FileInput } from '@sallyport/protocol';
import type { TranscriptEntry, TranscriptKey, TranscriptStore, TurnRef } from '../engine/ports.ts';
import { callsOf, outcomesOf } from './recovery.ts';

/** The SDK's session store over ours, for one process. What is stored is always a whole beginning of the transcript. */
export interface TranscriptMirror {
  readonly sessionStore: SessionStore;
  /** The turn that the process has, or had last: who has taken over from it stores what comes then. */
  writer: TurnRef;
  /** True once an entry with this uuid is stored. */
  holds(uuid: string): boolean;
  /** True once anything is stored. */
  readonly begun: boolean;
  /** Resolves when the message that makes this tool call is stored, or its outcome. */
  stored(what: 'call' | 'outcome', toolUseId: string): Promise<void>;
  /** Resolves when nothing is being stored. Never rejects. */
  settled(): Promise<void>;
  /** Why the last append failed, null if it did not. For logs. */
  readonly failure: unknown;
  /** Drops every later append. */
  close(): void;
}

/** What a process goes on from. */
export interface Past {
  readonly entries: readonly TranscriptEntry[];
  /** Writes a file into the config directory of the process. */
  readonly write: (file: FileInput) => Promise<void>;
}

/** A session that Claude Code has under an id of its own, because it was not there when the process started. */
export interface Alias {
  /** Claude Code's own id of it. Entries of others are dropped. */
  readonly own: string;
  /** The id that it is stored under. */
  readonly session: string;
  /** The uuids of the entries that were there before the first message. They are not stored. */
  readonly before: ReadonlySet<string>;
}

/** The entries as Claude Code would have made them in a session of the other id, with nothing before. */
function aliased(entries: readonly SessionStoreEntry[], { own, session, before }: Alias): TranscriptEntry[] {
  return entries.map((entry) => {
    const { sessionId, parentUuid } = entry;
    return {
      ...entry,
      ...(sessionId === own ? { sessionId: session } : {}),
      ...(typeof parentUuid === 'string' && before.has(parentUuid) ? { parentUuid: null } : {}),
    };
  });
}

/**
 * The session store of a process that waits for a turn: stores nothing, and collects the uuids of what Claude Code
 * wrote down meanwhile.
 */
export function createWaitingMirror(before: Set<string>): TranscriptMirror {
  const none: TranscriptStore = {
    append: async (_key, entries) => {
      for (const { uuid } of entries) if (typeof uuid === 'string') before.add(uuid);
    },
    load: async () => null,
    has: async () => false,
    subpaths: async () => [],
    delete: async () => {},
  };
  return createTranscriptMirror(none, { tenant: '', conversation: '', turn: '', epoch: 0 }, null);
}

/**
 * The entries of a session, null when Claude Code would not go on from them: it finds no conversation in a transcript
 * without a message, such as that of a process which ended before its first.
 */
export async function pastOf(
  store: TranscriptStore,
  tenant: string,
  session: string,
): Promise<TranscriptEntry[] | null> {
  const entries = await store.load({ tenant, session, subpath: '' });
  return entries?.some(({ type }) => type === 'user' || type === 'assistant') === true ? entries : null;
}

/**
 * Keys entries by tenant and session: the SDK's project key is a folded path, in which two projects can be the same.
 * The SDK repeats a failing append with the same array and then goes on with the next one. That would leave a hole, so
 * after a given-up append every other one is refused.
 *
 * To resume, the SDK would write what the store loads into a directory of its own among the system's temporary files,
 * which stays there when this server is killed. So we write it where Claude Code looks for it, into its own config
 * directory, and say that there is nothing to load. No tool of ours makes sub-transcripts, so there are none to write.
 */
export function createTranscriptMirror(
  store: TranscriptStore,
  writer: TurnRef,
  past: Past | null,
  alias: Alias | null = null,
): TranscriptMirror {
  const stored = new Stored();
  let appending: Promise<unknown> = Promise.resolve();
  let unsettled: readonly SessionStoreEntry[] | null = null;
  let broken = false;
  let closed = false;
  let failure: unknown = null;

  const keyOf = ({ sessionId, subpath = '' }: { sessionId: string; subpath?: string }): TranscriptKey => {
    return { tenant: mirror.writer.tenant, session: alias?.session ?? sessionId, subpath };
  };

  async function append(key: TranscriptKey, entries: SessionStoreEntry[]): Promise<void> {
    broken ||= unsettled !== null && unsettled !== entries;
    if (broken) throw new Error('an earlier append was given up');
    unsettled = entries;
    try {
      await store.append(key, alias === null ? entries : aliased(entries, alias), mirror.writer);
    } catch (error) {
      failure = error;
      throw error;
    }
    unsettled = null;
    failure = null;
    stored.add(entries);
  }

  const mirror: TranscriptMirror = {
    writer,
    sessionStore: {
      async append(key, entries) {
        if (closed || (alias !== null && key.sessionId !== alias.own)) return;
        const appended = append(keyOf(key), entries);
        appending = Promise.allSettled([appending, appended]);
        await appended;
      },
      async load({ projectKey, sessionId }) {
        if (past !== null) await writePast(past, `projects/${projectKey}/${sessionId}.jsonl`);
        return null;
      },
    },
    holds: (uuid) => stored.uuids.has(uuid),
    get begun() {
      return stored.uuids.size > 0;
    },
    stored: (what, id) => stored.markOf(`${what} ${id}`).promise,
    async settled() {
      await appending;
    },
    get failure() {
      return failure;
    },
    close() {
      closed = true;
    },
  };
  return mirror;
}

async function writePast({ entries, write }: Past, path: string): Promise<void> {
  await write({ path, content: entries.map((entry) => `${JSON.stringify(entry)}\n`).join('') });
}

/** What a process has had stored. */
class Stored {
  readonly uuids = new Set<string>();
  /** Tool calls and outcomes that are stored, and those that somebody waits for. */
  readonly #marks = new Map<string, PromiseWithResolvers<void>>();

  add(entries: readonly SessionStoreEntry[]): void {
    for (const { uuid } of entries) if (uuid !== undefined) this.uuids.add(uuid);
    for (const { id } of callsOf(entries)) this.markOf(`call ${id}`).resolve();
    for (const id of outcomesOf(entries)) this.markOf(`outcome ${id}`).resolve();
  }

  markOf(name: string): PromiseWithResolvers<void> {
    const mark = this.#marks.get(name) ?? Promise.withResolvers<void>();
    this.#marks.set(name, mark);
    return mark;
  }
}
