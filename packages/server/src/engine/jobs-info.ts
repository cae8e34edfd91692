import type { JobInfo, JobSummary } from '@sallyport/protocol';
import { isoTime } from './clock.ts';
import { logOf } from './conversations.ts';
import type { TurnOutcome } from './engine.ts';
import { errorOf } from './idempotency.ts';
import type { JobParts } from './jobs-parts.ts';
import { messagesOf } from './messages.ts';
import type { StoredJob } from './ports.ts';

const timeOrNull = (at: number | null): string | null => (at === null ? null : isoTime(at));

/** A job as a list shows it. */
export function jobSummary(job: StoredJob): JobSummary {
  return {
    job_id: job.id,
    status: job.status,
    priority: job.priority,
    attempt: job.attempt,
    attempts: job.attempts,
    session_id: job.begun ? job.conversation : null,
    error: job.error,
    code: job.code,
    webhook_url: job.webhookUrl,
    created_at: isoTime(job.createdAt),
    run_at: isoTime(job.runAt),
    started_at: timeOrNull(job.startedAt),
    ended_at: timeOrNull(job.endedAt),
  };
}

/** A job as it stands, with its result once it has ended. */
export async function jobInfo(parts: Pick<JobParts, 'turns'>, job: StoredJob): Promise<JobInfo> {
  const turn = job.endedAt === null ? null : await firstTurn(parts, job);
  return { ...jobSummary(job), result: turn?.outcome ? resultOf(turn.outcome) : null };
}

/** The same as `/query` answers. */
export const resultOf = ({ result, messages }: TurnOutcome): JobInfo['result'] => ({
  ...result,
  messages: [...messages],
});

/** The first turn of the conversation of a job, which is its run. */
export interface JobTurn {
  /** True: a human is to decide. */
  readonly waits: boolean;
  /** Null: it has no end yet. */
  readonly outcome: TurnOutcome | null;
}

/** The run of a job's attempt as it is stored; null when there is none. */
export async function firstTurn(
  { turns }: Pick<JobParts, 'turns'>,
  { tenant, conversation }: Pick<StoredJob, 'tenant' | 'conversation'>,
): Promise<JobTurn | null> {
  if (conversation === null) return null;
  const [first] = await turns.read(tenant, conversation, 0, 1);
  const turn = first === undefined ? null : await turns.get(tenant, first.turn);
  if (turn === null) return null;
  const { result } = turn;
  if (result === null) return { waits: turn.state === 'waiting', outcome: null };
  const log = await logOf({ turns }, tenant, conversation);
  const messages = messagesOf(log.filter((event) => event.turn === turn.ref.turn));
  return { waits: false, outcome: { result, messages, error: errorOf(turn, result) } };
}
