import { infoOf, visible } from './conversations.ts';
import type { Engine, EngineParts } from './engine.ts';
import { SallyportError } from './errors.ts';
import type { Exclusive } from './exclusive.ts';
import { newId, newUuid } from './ids.ts';
import { ConversationExistsError, type StoredConversation } from './ports.ts';
import type { Principal } from './principal.ts';
import { keyOf } from './running.ts';

const busy = () => new SallyportError('conversation_busy', { retryAfter: 1 });

/**
 * Makes a conversation with the past of another one, which is told nothing meanwhile. What was copied is deleted again
 * when that fails.
 */
export function forking(parts: EngineParts, exclusive: Exclusive): Engine['fork'] {
  async function fork(principal: Principal, id: string, sessionId: string | undefined): Promise<string> {
    const from = await visible(parts, principal, id);
    if (from.status === 'running' || from.status === 'waiting') throw busy();
    const { tenant } = from;
    await parts.stops.check({ tenant, key: from.key, conversation: id });
    await parts.stops.check({ tenant, key: principal.key, conversation: sessionId ?? null });
    const to = { tenant, id: sessionId ?? newId('conv'), sdkSession: newUuid() };
    try {
      await parts.runner.free(tenant, from.sdkSession);
      await parts.runner.fork({ tenant, session: from.sdkSession }, { tenant, session: to.sdkSession });
      const fork = { ...to, from: id, epoch: from.epoch, key: principal.key, at: parts.clock.now() };
      const made: StoredConversation | null = await parts.conversations.fork(fork);
      if (made === null) throw busy();
    } catch (error) {
      await parts.transcripts.delete(tenant, to.sdkSession);
      await parts.runner.forget(tenant, to.sdkSession);
      if (error instanceof ConversationExistsError) throw new SallyportError('conversation_exists', { cause: error });
      throw SallyportError.from(error);
    }
    return to.id;
  }
  return async (principal, id, sessionId) => {
    const made = await exclusive.run(keyOf(principal.tenant, id), () => fork(principal, id, sessionId));
    return await infoOf(parts, principal, made);
  };
}
