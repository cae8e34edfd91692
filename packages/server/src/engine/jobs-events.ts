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

/** A place in the events of a job: those of one run after the other. */
export interface JobCursor {
  /** Names the run: an attempt that did not count has the number of the next one. Null: before the first. */
  readonly conversation: string | null;
  readonly cursor: Cursor;
}

/** Reads a cursor; throws `bad_cursor` when it is none. */
export function jobCursor(text: string | undefined): JobCursor {
  if (text === undefined) return { conversation: null, cursor: startOfLog };
  const [, conversation, rest = ''] = /^(conv-[0-9a-f]{32})\.(.+)$/.exec(text) ?? [];
  const cursor = parseCursor(rest);
  if (conversation === undefined || cursor === null) throw new SallyportError('bad_cursor');
  return { conversation, cursor };
}

const plain = { content: '', role: 'system' as const, tools_used: [] as string[], type: 'status' as const };

function statusItem({ status, error, endedAt }: StoredJob): JobItem {
  const isOver = endedAt !== null;
  const reason = !isOver && error !== null ? { reason: error } : {};
  return { cursor: null, event: { ...plain, status, ...reason, is_complete: isOver, error: isOver ? error : null } };
}

/** A line that says that a job waits. */
const queuedItem = (job: StoredJob): JobItem => statusItem({ ...job, status: 'queued', endedAt: null });

/** Changes whenever there is something else to tell. */
const stateOf = ({ status, conversation, begun }: StoredJob): string => JSON.stringify([status, conversation, begun]);

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
  /** The attempts before it that waiting was told of, since anything was told of a run. */
  let told: number | null = null;
  let job = await look();
  while (!signal.aborted) {
    const { status, attempt, begun, conversation } = job;
    if (status === 'queued' && told !== attempt) {
      told = attempt;
      yield queuedItem(job);
    }
    if (begun && conversation !== null && status !== 'queued') {
      const from = at.conversation === conversation ? at.cursor : startOfLog;
      for await (const item of runOf(parts, principal, look, { job, after: from, signal })) {
        // It was too quick to be seen waiting. What was told of the run before counts no more.
        if (at.conversation !== null && at.conversation !== conversation && told === null) yield queuedItem(job);
        told = null;
        at = { conversation, cursor: item.cursor };
        yield { cursor: `${conversation}.${formatCursor(item.cursor)}`, event: item.event };
      }
    }
    if (signal.aborted) return;
    const now = await look();
    if (now.endedAt !== null && stateOf(now) === stateOf(job)) {
      yield statusItem(now);
      return;
    }
    if (stateOf(now) === stateOf(job)) await delay(lookMs, undefined, { signal }).catch(() => undefined);
    job = now;
  }
}

/** The events of one run, as long as it is the one of the job and has not ended. */
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
    while (!over.signal.aborted && stateOf(await look()) === stateOf(job) && job.endedAt === null) {
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
