import { setTimeout as delay } from 'node:timers/promises';
import {
  formatCursor,
  parseCursor,
  startOfLog,
  type Cursor,
  type StreamEvent,
  type StreamItem,
} from '@sallyport/protocol';
import { logOf } from './conversations.ts';
import { SallyportError } from './errors.ts';
import type { JobParts } from './jobs-parts.ts';
import type { StoredJob } from './ports.ts';
import type { Principal } from './principal.ts';

/** How often it is looked how the job stands, in milliseconds. */
const lookMs = 500;

/** An event of a job. The cursor continues after it; null: the one before does. */
export interface JobItem {
  readonly cursor: string | null;
  readonly event: StreamEvent;
}

/** A place in the events of a job: those of one attempt after the other. */
export interface JobCursor {
  readonly attempt: number;
  readonly cursor: Cursor;
}

/** Reads a cursor; throws `bad_cursor` when it is none. */
export function jobCursor(text: string | undefined): JobCursor {
  if (text === undefined) return { attempt: 0, cursor: startOfLog };
  const [, attempt, rest = ''] = /^([1-9]\d{0,8})\.(.+)$/.exec(text) ?? [];
  const cursor = parseCursor(rest);
  if (attempt === undefined || cursor === null) throw new SallyportError('bad_cursor');
  return { attempt: Number(attempt), cursor };
}

const plain = { content: '', role: 'system' as const, tools_used: [] as string[], type: 'status' as const };

function statusItem({ status, error, endedAt }: StoredJob): JobItem {
  const isOver = endedAt !== null;
  const reason = !isOver && error !== null ? { reason: error } : {};
  return { cursor: null, event: { ...plain, status, ...reason, is_complete: isOver, error: isOver ? error : null } };
}

const attemptOf = ({ status, attempt, begun }: StoredJob): string => JSON.stringify([status, attempt, begun]);

/**
 * Follows a job to its end, or until the signal is aborted: that it is queued, the events of its run after the cursor, and
 * how it ended. `look` gives the job as it stands; it rejects when it is not there any more.
 */
export async function* followJob(
  parts: Pick<JobParts, 'engine' | 'turns' | 'conversations'>,
  principal: Principal,
  look: () => Promise<StoredJob>,
  after: JobCursor,
  signal: AbortSignal,
): AsyncGenerator<JobItem, void, undefined> {
  let at = after;
  let told = '';
  let job = await look();
  while (!signal.aborted) {
    if (job.status === 'queued' && told !== attemptOf(job)) {
      told = attemptOf(job);
      yield statusItem(job);
    }
    if (job.begun && job.conversation !== null && job.status !== 'queued') {
      if (at.attempt !== job.attempt) at = { attempt: job.attempt, cursor: startOfLog };
      for await (const item of runOf(parts, principal, look, { job, after: at.cursor, signal })) {
        at = { attempt: job.attempt, cursor: item.cursor };
        yield { cursor: `${job.attempt}.${formatCursor(item.cursor)}`, event: item.event };
      }
    }
    if (signal.aborted) return;
    const now = await look();
    if (now.endedAt !== null && attemptOf(now) === attemptOf(job)) {
      yield statusItem(now);
      return;
    }
    if (attemptOf(now) === attemptOf(job)) await delay(lookMs, undefined, { signal }).catch(() => undefined);
    job = now;
  }
}

/** The events of one attempt, as long as it is the one of the job and has not ended. */
async function* runOf(
  parts: Pick<JobParts, 'engine' | 'turns' | 'conversations'>,
  principal: Principal,
  look: () => Promise<StoredJob>,
  of: { readonly job: StoredJob; readonly after: Cursor; readonly signal: AbortSignal },
): AsyncGenerator<StreamItem, void, undefined> {
  const { job, signal } = of;
  const id = job.conversation ?? '';
  if (await isOverAt(parts, job, of.after)) return;
  const over = new AbortController();
  const watch = async (): Promise<void> => {
    while (!over.signal.aborted && attemptOf(await look()) === attemptOf(job) && job.endedAt === null) {
      await delay(lookMs, undefined, { signal: over.signal }).catch(() => undefined);
    }
    over.abort();
  };
  const watching = watch().catch(() => over.abort());
  let after = of.after;
  try {
    const live = AbortSignal.any([signal, over.signal]);
    for (const follow of job.endedAt === null ? [true, false] : [false]) {
      if (signal.aborted) return;
      for await (const item of await parts.engine.events(principal, id, {
        after,
        follow,
        signal: follow ? live : signal,
      })) {
        after = item.cursor;
        yield item;
        // What is said in its conversation later is not of the job.
        if (item.event.type === 'result') return;
      }
    }
  } finally {
    over.abort();
    await watching;
  }
}

/** True when the run has nothing to say after the cursor: its result came before, or it was deleted. */
async function isOverAt(
  { turns, conversations }: Pick<JobParts, 'turns' | 'conversations'>,
  { tenant, conversation }: StoredJob,
  after: Cursor,
): Promise<boolean> {
  if (conversation === null) return true;
  const found = await conversations.get(tenant, conversation);
  if (found === null || found.status === 'gone') return true;
  if (after.seq === 0) return false;
  const log = await logOf({ turns }, tenant, conversation);
  const end = log.find(({ body }) => body.type === 'result');
  return end !== undefined && end.seq <= after.seq;
}
