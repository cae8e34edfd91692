import { z } from 'zod';
import type { Bounds } from './bounds.ts';
import { pageQuery } from './conversation-shapes.ts';
import { queryRequest, queryResponse, timestamp } from './shapes.ts';

export const jobStatuses = ['queued', 'running', 'completed', 'failed', 'cancelled'] as const;
export type JobStatus = (typeof jobStatuses)[number];

const webhookUrl = z
  .url({ protocol: /^https?$/u, error: 'must be an https URL' })
  .max(2_000)
  .refine((text) => !/^https?:\/\/[^/?#]*@/u.test(text), { error: 'must not hold a user or password' });

/** A job as clients ask for it, under the given bounds. Parsing fills defaults. */
export function jobRequest(bounds: Bounds) {
  return z
    .strictObject({
      request: queryRequest(bounds).describe('The query, as `POST /api/claude/query` takes it. `cache` has no effect.'),
      priority: z.int().min(0).max(9).default(5).describe('Of the jobs of a tenant those of a higher one begin first.'),
      run_at: z.iso
        .datetime({ offset: true })
        .nullish()
        .describe('It begins then or later. At most 30 days ahead; what has passed counts as now.'),
      attempts: z
        .int()
        .min(1)
        .max(5)
        .default(1)
        .describe('How often it is tried at most, as long as it fails with a code that says `retryable`.'),
      webhook_url: webhookUrl
        .nullish()
        .describe('Told of its end, whatever that is. Of https, but where an admin allows http to private addresses.'),
    })
    .meta({ id: 'JobRequest' });
}
export type JobRequest = z.output<ReturnType<typeof jobRequest>>;

/** A job as a list shows it. */
export const jobSummary = z
  .object({
    job_id: z.string(),
    status: z
      .enum(jobStatuses)
      .describe('`completed`: the run ended with success. `failed`: it did not, or could not run.'),
    priority: z.int(),
    attempt: z.int().describe('Which attempt runs or ran last; 0 before the first.'),
    attempts: z.int().describe('Most attempts.'),
    session_id: z.string().nullable().describe('The conversation of its run, once there is one.'),
    error: z.string().nullable().describe('What to tell the user when it failed, or why it is tried again.'),
    code: z.string().nullable().describe('The code of that, when it has one.'),
    webhook_url: z.string().nullable(),
    created_at: timestamp,
    run_at: timestamp.describe('It begins then or later.'),
    started_at: timestamp.nullable().describe('When its last attempt began.'),
    ended_at: timestamp.nullable(),
  })
  .meta({ id: 'JobSummary' });
export type JobSummary = z.output<typeof jobSummary>;

export const job = jobSummary
  .extend({
    result: queryResponse
      .nullable()
      .describe('How its run ended, once it has: the same as of a query. Null where nothing ran, or it was deleted.'),
  })
  .meta({ id: 'Job' });
export type JobInfo = z.output<typeof job>;

export const jobPath = z.strictObject({ job_id: z.string().min(1).max(100) });
export const jobsQuery = pageQuery.extend({ status: z.enum(jobStatuses).optional() });
export const jobEventsQuery = z.strictObject({
  after: z
    .string()
    .max(100)
    .optional()
    .describe('A cursor; the events after it are sent. `Last-Event-ID` counts over it.'),
});
export const jobList = z
  .object({ items: z.array(jobSummary), next_cursor: z.string().nullable() })
  .meta({ id: 'JobList' });
