import type {
  ClaudeMessage,
  ConversationInfo,
  ConversationStatus,
  ConversationSummary,
  LogEvent,
} from '@sallyport/protocol';
import { isoTime } from './clock.ts';
import type { EngineParts, ListRequest } from './engine.ts';
import { SallyportError } from './errors.ts';
import { messagesOf } from './messages.ts';
import { checkProfile, rootsOf } from './policy.ts';
import type { Profile, StoredConversation, TurnStore } from './ports.ts';
import type { Principal } from './principal.ts';
import { resolveProject } from './workspaces.ts';

const page = 500;

/** Whose conversations and approvals the principal sees; null: those of every key of its tenant. */
export const ownKey = ({ role, key }: Principal): string | null =>
  role === 'admin' || role === 'operator' ? null : key;

/**
 * A conversation that the principal may see. Rejects with `conversation_not_found`, whatever the reason, and with `gone`
 * when its retention has passed.
 */
export async function visible(parts: EngineParts, principal: Principal, id: string): Promise<StoredConversation> {
  const found = await parts.conversations.get(principal.tenant, id);
  const own = ownKey(principal);
  if (found === null || (own !== null && found.key !== own)) throw new SallyportError('conversation_not_found');
  if (found.status === 'gone') throw new SallyportError('gone');
  return found;
}

/**
 * What a conversation was allowed at its start may have been withdrawn since, or be more than the key may have that goes
 * on with it: rejects as its start would.
 */
export async function stillAllowed(parts: EngineParts, principal: Principal, profile: Profile): Promise<void> {
  const { workspaceRoots, isProtected, policy } = parts;
  checkProfile(principal, profile, policy);
  if (profile.projectPath !== null) {
    await resolveProject(profile.projectPath, rootsOf(principal, workspaceRoots), isProtected);
  }
}

const expiryOf = (parts: EngineParts, { lastActiveAt }: StoredConversation): number =>
  lastActiveAt + parts.conversationTtlSeconds * 1000;

/** A conversation ends by itself after a time without a message, but never while a turn runs. */
export function statusOf(parts: EngineParts, conversation: StoredConversation): ConversationStatus {
  if (conversation.status === 'gone') return 'ended';
  if (conversation.status !== 'idle') return conversation.status;
  return expiryOf(parts, conversation) <= parts.clock.now() ? 'ended' : 'idle';
}

/** The whole log of a conversation. */
export async function logOf(
  parts: { readonly turns: Pick<TurnStore, 'read'> },
  tenant: string,
  id: string,
): Promise<LogEvent[]> {
  const events: LogEvent[] = [];
  for (;;) {
    const next = await parts.turns.read(tenant, id, events.at(-1)?.seq ?? 0, page);
    events.push(...next);
    if (next.length < page) return events;
  }
}

export async function historyOf(parts: EngineParts, principal: Principal, id: string): Promise<ClaudeMessage[]> {
  const { tenant } = await visible(parts, principal, id);
  return messagesOf(await logOf(parts, tenant, id));
}

function summaryOf(parts: EngineParts, conversation: StoredConversation): ConversationSummary {
  const { id, kind, createdAt, lastActiveAt, profile, metadata } = conversation;
  return {
    session_id: id,
    kind,
    status: statusOf(parts, conversation),
    created_at: isoTime(createdAt),
    last_message_time: isoTime(lastActiveAt),
    expires_at: isoTime(expiryOf(parts, conversation)),
    permission_mode: profile.permissionMode,
    model: profile.model,
    metadata: { ...metadata },
  };
}

export async function infoOf(parts: EngineParts, principal: Principal, id: string): Promise<ConversationInfo> {
  const conversation = await visible(parts, principal, id);
  const { tenant } = conversation;
  const messages = messagesOf(await logOf(parts, tenant, id));
  const spent = await parts.usage.ofConversation(tenant, id);
  return {
    ...summaryOf(parts, conversation),
    exists: true,
    message_count: messages.length,
    tools_used: [...new Set(messages.flatMap((message) => message.tools_used))],
    tokens_used: spent.tokens,
    cost_usd: spent.costUsd,
  };
}

/** A place in a list that is ordered by creation. */
export interface Place {
  readonly createdAt: number;
  readonly id: string;
}

export const toCursor = ({ createdAt, id }: Place): string =>
  Buffer.from(JSON.stringify([createdAt, id])).toString('base64url');

export function fromCursor(cursor: string): Place {
  try {
    const [createdAt, id, ...rest] = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as unknown[];
    if (Number.isSafeInteger(createdAt) && typeof id === 'string' && rest.length === 0) {
      return { createdAt: createdAt as number, id };
    }
  } catch {
    // Answered below, like every text that is no cursor of ours.
  }
  throw new SallyportError('bad_cursor');
}

/** A page of rows that are ordered by creation, as a client reads it. A full one may have another one after it. */
export function pageOf<Row extends Place, Item>(rows: readonly Row[], limit: number, item: (row: Row) => Item) {
  const last = rows.length === limit ? rows.at(-1) : undefined;
  return { items: rows.map(item), next_cursor: last ? toCursor(last) : null };
}

/** A page of conversations. The status is told by the time, so those of another one are left out while reading. */
export async function listOf(parts: EngineParts, principal: Principal, { cursor, limit, status, kind }: ListRequest) {
  const items: ConversationSummary[] = [];
  let before = cursor === undefined ? null : fromCursor(cursor);
  for (;;) {
    const rows = await parts.conversations.list({
      tenant: principal.tenant,
      key: ownKey(principal),
      kind,
      before,
      limit,
    });
    for (const row of rows) {
      before = { createdAt: row.createdAt, id: row.id };
      if (row.status === 'gone') continue;
      const summary = summaryOf(parts, row);
      if (status !== undefined && summary.status !== status) continue;
      items.push(summary);
      if (items.length === limit) return { items, next_cursor: toCursor(before) };
    }
    if (rows.length < limit) return { items, next_cursor: null };
  }
}
