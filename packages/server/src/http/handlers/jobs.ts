import { feedOf } from '../../engine/feed.ts';
import type { Jobs } from '../../engine/jobs.ts';
import { jobCursor, type JobItem } from '../../engine/jobs-events.ts';
import type { Handlers } from '../routes.ts';
import { eventText, frameOf as framed, streamHeaders, type Frame } from '../sse.ts';
import { streamFeed, type Watching } from './events.ts';

const frameOf = ({ cursor, event }: JobItem): Frame => framed(eventText(cursor, event));

/** Queries that run in the background. */
export function jobHandlers(
  jobs: Jobs,
  watching: Watching,
): Pick<Handlers, 'createJob' | 'listJobs' | 'job' | 'cancelJob' | 'jobEvents'> {
  return {
    createJob: async ({ reply, principal, body, idempotencyKey }) => {
      const { job, replayed } = await jobs.create(principal, body, { idempotencyKey });
      if (replayed) reply.header('idempotency-replayed', 'true');
      reply.code(202);
      return job;
    },
    listJobs: ({ principal, query }) => jobs.list(principal, query),
    job: ({ principal, params }) => jobs.get(principal, params.job_id),
    cancelJob: ({ principal, params }) => jobs.cancel(principal, params.job_id),
    jobEvents: async ({ request, reply, principal, params, query }) => {
      const after = request.headers['last-event-id']?.toString() ?? query.after;
      if (request.method === 'HEAD') {
        jobCursor(after);
        await jobs.get(principal, params.job_id);
        return reply.headers(streamHeaders).send('');
      }
      const stop = new AbortController();
      const items = await jobs.events(principal, params.job_id, { after, signal: stop.signal });
      return streamFeed(reply, feedOf(items, stop), frameOf, watching);
    },
  };
}
