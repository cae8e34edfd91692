import type { Bounds } from './bounds.ts';
import { streamEvent } from './events.ts';
import { job, jobEventsQuery, jobList, jobPath, jobRequest, jobsQuery, jobSummary } from './job-shapes.ts';
import { json, type Operation } from './operation.ts';

const base = '/api/claude/jobs';

const queued = {
  listJobs: {
    id: 'listJobs',
    method: 'GET',
    path: base,
    summary: 'Lists jobs, newest first',
    description: 'Those of the key; of the whole tenant for an operator or admin. `next_cursor` gives the next page.',
    right: 'read',
    query: jobsQuery,
    response: json(jobList, 'One page.'),
    errors: ['bad_cursor'],
  },
  job: {
    id: 'job',
    method: 'GET',
    path: `${base}/{job_id}`,
    summary: 'Says how a job stands',
    description: 'With its result, once it has ended.',
    right: 'read',
    params: jobPath,
    response: json(job, 'How it stands.'),
    errors: ['job_not_found'],
  },
  cancelJob: {
    id: 'cancelJob',
    method: 'DELETE',
    path: `${base}/{job_id}`,
    summary: 'Cancels a job',
    description:
      'One that is queued never runs; the run of one that is running is interrupted. Answers with the job as it stands: `cancelled`, the end that it had before, or `running` while its run is still being stopped.',
    right: 'run',
    params: jobPath,
    response: json(job, 'How it stands.'),
    errors: ['job_not_found', 'storage_full'],
  },
  jobEvents: {
    id: 'jobEvents',
    method: 'GET',
    path: `${base}/{job_id}/events`,
    summary: 'Follows a job',
    description:
      'Server-sent events: `status` while it is queued, what happens in its run, as `/conversation/{session_id}/events` tells it, and a last `status` with its end. After a cursor (`Last-Event-ID` or `after`) it goes on there. A job that is tried again tells `queued` again, and then the events of that attempt from their beginning. Leaving stops nothing.',
    right: 'read',
    params: jobPath,
    query: jobEventsQuery,
    uncounted: true,
    response: { status: 200, type: 'text/event-stream', schema: streamEvent, text: 'The events.' },
    errors: ['job_not_found', 'gone', 'bad_cursor'],
  },
} as const satisfies Record<string, Operation>;

/** The routes of jobs, under the given bounds. */
export function jobOperations(bounds: Bounds) {
  return {
    createJob: {
      id: 'createJob',
      method: 'POST',
      path: base,
      summary: 'Queues a query to be run in the background',
      description:
        'What may not be asked is refused at once. The job runs with the rights that its key has then, survives a restart of the service, and is never run twice. With an `Idempotency-Key` that was used before the answer is the job of then, as it stands.',
      right: 'run',
      body: jobRequest(bounds),
      startsWork: true,
      response: json(jobSummary, 'It is queued.', 202),
      errors: [
        'mode_not_allowed',
        'tool_not_allowed',
        'model_not_allowed',
        'path_not_allowed',
        'stopped',
        'webhook_url_refused',
        'webhook_secret_missing',
        'overloaded',
        'not_ready',
        'storage_full',
        'idempotency_key_reused',
      ],
    },
    ...queued,
  } as const satisfies Record<string, Operation>;
}
