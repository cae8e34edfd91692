import type { EngineParts } from './engine.ts';
import type { StoredConversation } from './ports.ts';
import type { Principal } from './principal.ts';

/**
 * Has the process of an idle conversation started ahead, as its owner has opened it and is likely to go on. Others who
 * look at it start nothing. Says nothing to the process and changes nothing; never throws.
 */
export function warmAhead(parts: EngineParts, { tenant, key }: Principal, found: StoredConversation): void {
  const { runner, stops, logger } = parts;
  const { id, kind, status, epoch, profile, limits, sdkSession } = found;
  if (kind !== 'conversation' || status !== 'idle' || key !== found.key || tenant !== found.tenant) return;
  if (stops.holds({ tenant, key, conversation: id })) return;
  const order = {
    ...limits,
    ref: { tenant, conversation: id, turn: '', epoch },
    key,
    profile,
    sdkSession,
    resume: true,
    recovery: null,
    stay: true,
    keepFiles: true,
    prompt: '',
    messageUuid: '',
    files: [],
    before: { calls: 0, spentUsd: 0 },
  };
  runner.warm(order).catch((error: unknown) => logger.warn({ error }, 'a conversation could not be warmed'));
}
