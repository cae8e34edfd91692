import { setTimeout as delay } from 'node:timers/promises';
import { isReadTool } from '@sallyport/protocol';
import { logOf } from './conversations.ts';
import type { TurnOutcome } from './engine.ts';
import { SallyportError } from './errors.ts';
import { newId } from './ids.ts';
import { firstTurn } from './jobs-info.ts';
import type { JobParts } from './jobs-parts.ts';
import { wasCutByStop } from './outcome.ts';
import type { JobRef, StoredJob } from './ports.ts';
import { mayUse } from './principal.ts';

/** How often it is looked whether a run has ended that was begun before, in milliseconds; and one that awaits a human. */
const [endMs, decisionMs] = [250, 2_000];
/** How often the store is asked again that did not answer. */
const storeMs = 1_000;

/** A job that this node runs. */
export interface Work {
  readonly job: StoredJob;
  /** True: its run is to be stopped. */
  cancelling: boolean;
  /** Called when a human is awaited for so long that others may have its place. */
  readonly waits: () => void;
}

/** The attempt that was taken: another node, or this one under another name, may have taken it over since. */
export const refOf = ({ tenant, id, conversation, node }: StoredJob): JobRef => ({
  tenant,
  id,
  conversation: conversation ?? '',
  node: node ?? '',
});

/** How an attempt ended. */
export interface Attempt {
  /** Null: nothing has run. */
  readonly outcome: TurnOutcome | null;
  readonly error: SallyportError | null;
}

/** Asks the store until it answers. Rejects only when the service closes meanwhile. */
export async function patiently<T>({ logger }: Pick<JobParts, 'logger'>, closing: AbortSignal, ask: () => Promise<T>) {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (closing.aborted) throw error;
      logger.warn({ err: error }, 'the store did not answer about a job; it is asked again');
      await delay(storeMs, undefined, { signal: closing }).catch(() => undefined);
    }
  }
}

/**
 * Has the run of an attempt done, which its conversation names: begins it unless it was begun, and waits for its end.
 * Null: it has no end, and goes on with the next start of the service. `closing` is aborted when no turn of this process
 * runs any more, and the store is about to be closed. Rejects like `patiently`.
 */
export async function runAttempt(parts: JobParts, work: Work, closing: AbortSignal): Promise<Attempt | null> {
  const { job } = work;
  const known = await patiently(parts, closing, () => firstTurn(parts, job));
  if (known === null && work.cancelling) return { outcome: null, error: null };
  if (known !== null) show(parts, job);
  const said = known === null ? await begin(parts, work) : null;
  // Its row tells the truth about a run: an end that could not be stored is no end yet, and what is not there did not run.
  for (;;) {
    const turn = await patiently(parts, closing, () => firstTurn(parts, job));
    if (turn === null) return { outcome: null, error: said ?? new SallyportError('not_ready') };
    const { outcome, waits } = turn;
    if (outcome !== null) return await explained(parts, work, { outcome, error: errorOf(outcome, said) }, closing);
    if (closing.aborted) return null;
    if (waits) work.waits();
    await delay(waits ? decisionMs : endMs, undefined, { signal: closing }).catch(() => undefined);
  }
}

/** What was said here of the same failure tells too when it is worth coming again. */
const errorOf = ({ error }: TurnOutcome, said: SallyportError | null): SallyportError | null =>
  error !== null && said?.code === error.code ? said : error;

/** Begins the run, with the rights that its key has now, and gives what it failed with, or could not begin with. */
async function begin(parts: JobParts, work: Work): Promise<SallyportError | null> {
  const { engine, keyRing, jobs } = parts;
  const { tenant, id, key, conversation } = work.job;
  try {
    const principal = await keyRing.named(tenant, key);
    if (principal === null) throw new SallyportError('invalid_key');
    if (!mayUse(principal, 'run')) throw new SallyportError('forbidden');
    const request = await jobs.request(tenant, id);
    if (request === null || conversation === null) throw new SallyportError('job_not_found');
    const turn = await engine.startJob(principal, request, { requestId: newId('req'), id: conversation });
    show(parts, work.job);
    void turn.waiting.then(work.waits);
    return (await turn.ended).error;
  } catch (error) {
    return SallyportError.from(error);
  }
}

/** Tells clients of the conversation. Its end does too. */
function show({ jobs, logger }: JobParts, job: StoredJob): void {
  const { id, begun } = job;
  if (begun) return;
  jobs
    .begun(refOf(job))
    .catch((error: unknown) => logger.warn({ job: id, err: error }, 'the conversation of a job is not shown'));
}

/** Finds out why a run was stopped that does not say it itself. */
async function explained(parts: JobParts, work: Work, attempt: Attempt, closing: AbortSignal): Promise<Attempt> {
  const { outcome, error } = attempt;
  if (error !== null || outcome?.result.stop_reason !== 'interrupted' || work.cancelling) return attempt;
  const { keyRing, stops } = parts;
  const { tenant, key, conversation } = work.job;
  const why = await patiently(parts, closing, async () => {
    if ((await keyRing.named(tenant, key)) === null) return new SallyportError('invalid_key');
    try {
      await stops.check({ tenant, key, conversation });
      return null;
    } catch (thrown) {
      if (thrown instanceof SallyportError && thrown.code === 'stopped') return thrown;
      throw thrown;
    }
  });
  if (why !== null) return { outcome, error: why };
  // Whoever finds it, and whenever: it begins anew where nothing is done twice by that.
  const again = wasCutByStop(outcome.result) && (await patiently(parts, closing, () => hasOnlyRead(parts, work.job)));
  return again ? { outcome: null, error: new SallyportError('not_ready') } : attempt;
}

async function hasOnlyRead({ turns }: JobParts, { tenant, conversation }: StoredJob): Promise<boolean> {
  const log = await logOf({ turns }, tenant, conversation ?? '');
  return log.every(({ body }) => body.type !== 'tool_start' || isReadTool(body.name));
}
