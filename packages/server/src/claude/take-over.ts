import type { RunOrder } from '../engine/ports.ts';
import type { HookDuties } from './hooks.ts';
import { isFirst } from './live.ts';
import { keptAs, putFiles, type ProcessParts, type RunProcess } from './run-process.ts';
import { createTranscriptMirror } from './transcripts.ts';

/**
 * Gives a process that waited the turn. False when it cannot take it: it has died, and nothing was said to it. That its
 * files may change is still to be noted, before it may call the model.
 */
export async function takeOver(
  { transcripts, log }: ProcessParts,
  process: RunProcess,
  order: RunOrder,
  duties: HookDuties,
): Promise<boolean> {
  const { ref, sdkSession, keepFiles, profile } = order;
  const { jail } = process;
  if (keepFiles) jail.keepAs(keptAs(ref, sdkSession));
  process.mirror.writer = ref;
  if (isFirst(order)) {
    const { session: own, before } = process;
    process.mirror = createTranscriptMirror(transcripts, ref, null, { own, session: sdkSession, before });
    try {
      process.claude ??= process.parked?.claim(profile) ?? null;
    } catch (error) {
      log.warn({ jail: jail.id, err: error }, 'a spare process could not be taken');
      return false;
    }
  }
  process.duties = duties;
  await putFiles(process, order);
  return true;
}
