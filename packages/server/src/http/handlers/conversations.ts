import type { Engine } from '../../engine/engine.ts';
import type { Handlers } from '../routes.ts';

/** What of conversations is answered at once, and what changes them without saying anything in them. */
export function conversationHandlers(
  engine: Engine,
): Pick<
  Handlers,
  | 'listConversations'
  | 'conversationInfo'
  | 'conversationMessages'
  | 'conversationDiff'
  | 'interruptConversation'
  | 'forkConversation'
  | 'deleteConversation'
> {
  return {
    listConversations: ({ principal, query }) => engine.conversations(principal, query),
    conversationInfo: ({ principal, params }) => engine.conversation(principal, params.session_id),
    conversationMessages: async ({ principal, params }) => ({
      items: await engine.messages(principal, params.session_id),
      next_cursor: null,
    }),
    conversationDiff: ({ principal, params }) => engine.diff(principal, params.session_id),
    forkConversation: ({ principal, params, body }) =>
      engine.fork(principal, params.session_id, body.session_id ?? undefined),
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
