import type { Engine, EngineParts, OwnEngine } from './engine.ts';
import { SallyportError } from './errors.ts';
import { checkOutputSchema } from './output-schema.ts';
import { decideProfile } from './policy.ts';
import { acceptQuery, endAbandoned, endOf, eventsOf } from './query.ts';
import { Turn } from './turn.ts';
import { resolveProject } from './workspaces.ts';

/** Ends the turns that an earlier process of the service left open, then serves. */
export async function createEngine(parts: EngineParts): Promise<OwnEngine> {
  await endAbandoned(parts);
  const running = new Map<Turn, Promise<unknown>>();
  let draining = false;
  let closing = false;

  const startQuery: Engine['startQuery'] = async (principal, request, context) => {
    if (draining) throw new SallyportError('not_ready');
    if (request.output_schema) checkOutputSchema(request.output_schema);
    const path = request.project_path;
    const projectPath = path === undefined ? null : await resolveProject(path, parts.workspaceRoots, parts.isProtected);
    const profile = decideProfile(principal, request, projectPath, parts.policy);
    const accepted = await acceptQuery(parts, principal, request, profile);
    const turn = new Turn({
      ...parts,
      log: accepted.log,
      requestId: context.requestId,
      maxTurns: request.max_turns,
      timeoutSeconds: request.timeout,
      order: {
        ref: accepted.ref,
        key: principal.key,
        profile,
        sdkSession: accepted.sdkSession,
        prompt: request.prompt,
        messageUuid: accepted.messageUuid,
        files: request.files ?? [],
        instructions: request.instructions,
        maxTurns: request.max_turns,
        budgetUsd: request.max_budget_usd ?? null,
      },
    });
    const leave = () => turn.stop({ reason: draining ? 'shutdown' : 'client_left' });
    context.signal.addEventListener('abort', leave, { once: true });
    if (context.signal.aborted) leave();
    if (closing) turn.stop({ reason: 'shutdown' });
    const ended = endOf(parts, accepted, turn).finally(() => {
      context.signal.removeEventListener('abort', leave);
      running.delete(turn);
    });
    running.set(turn, ended);
    return { conversation: accepted.ref.conversation, ended, events: () => eventsOf(parts, accepted) };
  };

  return {
    startQuery,
    models: () => ({ models: [...parts.policy.models], default: parts.policy.defaultModel }),
    drain() {
      draining = true;
    },
    async close() {
      draining = true;
      closing = true;
      for (const turn of running.keys()) turn.stop({ reason: 'shutdown' });
      await Promise.all(running.values());
    },
  };
}
