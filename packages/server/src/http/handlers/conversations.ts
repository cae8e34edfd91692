import type { Engine } from '../../engine/engine.ts';
import type { Handlers } from '../routes.ts';

/** What of conversations is answered at once, and what changes them without saying anything in them. */
export function conversationHandlers(
  engine: Engine,
): Pick<
  Handlers,
  'listConversations' | 'conversationInfo' | 'conversationMessages' | 'interruptConversation' | 'deleteConversation'
> {
  return {
    listConversations: ({ principal, query }) => engine.conversations(principal, query),
    conversationInfo: ({ principal, params }) => engine.conversation(principal, params.session_id),
    conversationMessages: async ({ principal, params }) => ({
      items: await engine.messages(principal, params.session_id),
      next_cursor: null,
    }),
    interruptConversation: async ({ principal, params }) => ({
      session_id: params.session_id,
      interrupted: await engine.interrupt(principal, params.session_id),
    }),
    deleteConversation: async ({ principal, params }) => {
      await engine.deleteConversation(principal, params.session_id);
      return { message: 'The conversation was deleted.' };
    },
  };
}
