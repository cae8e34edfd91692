import type { Engine } from '../../engine/engine.ts';
import { tellReplay } from '../idempotency.ts';
import { leaveUnanswered } from '../key-watch.ts';
import type { Handlers } from '../routes.ts';
import type { OpenRuns } from '../runs.ts';

export interface ClaudeHealth {
  readonly status: 'healthy' | 'degraded' | 'unhealthy';
  readonly claude_available: boolean;
  readonly error: string | null;
}

/** What of Claude Code is answered at once: a query when it has ended, the last known state, the models. */
export function claudeHandlers(
  engine: Engine,
  runs: OpenRuns,
  health: () => ClaudeHealth,
): Pick<Handlers, 'query' | 'claudeHealth' | 'models'> {
  return {
    query: async ({ request, reply, principal, body, idempotencyKey }) => {
      const { left, stopped } = runs.open(reply);
      const context = { requestId: request.id, signal: stopped, idempotencyKey };
      const turn = await engine.startQuery(principal, body, context);
      tellReplay(reply, turn);
      const { result, messages, error } = await turn.ended;
      if (left.aborted) return leaveUnanswered(reply);
      if (error) throw error;
      return { ...result, messages };
    },
    claudeHealth: ({ reply }) => {
      const state = health();
      if (state.status === 'unhealthy') reply.code(503);
      return state;
    },
    models: ({ principal }) => engine.models(principal),
  };
}
