import { visible } from './conversations.ts';
import type { EngineParts } from './engine.ts';
import type { Interruptions } from './nodes-stops.ts';
import type { Principal } from './principal.ts';

/** Stops the turn of a conversation, wherever it runs, and deletes all there is of it. Rejects like `visible`. */
export async function deleteWhole(
  parts: EngineParts,
  principal: Principal,
  id: string,
  interruptions: Interruptions,
): Promise<void> {
  const { conversations, transcripts, runner, audit, clock, lease } = parts;
  const { tenant, sdkSession, kind } = await visible(parts, principal, id);
  if (kind === 'job') await parts.jobs.cancelRun(tenant, id);
  const { key: actor } = principal;
  const line = { at: clock.now(), tenant, actor, action: 'conversation.delete', ref: null, subject: id, details: {} };
  await interruptions.stop(tenant, id);
  // Another node may have begun the next turn meanwhile.
  while (!(await conversations.end(tenant, id)) && lease.shared) await interruptions.stop(tenant, id);
  await audit.append([line]);
  // The row last: what is left when it is cut short can be deleted again.
  await transcripts.delete(tenant, sdkSession);
  await runner.forget(tenant, sdkSession);
  await conversations.delete(tenant, id);
}
