import { call } from './approvals.ts';
import { eventsIn, until } from './runs.ts';
import { userKey } from './service.ts';

/** Where a service answers, now: it may be another one after a restart. */
interface Service {
  readonly url: string;
}

type Json = Record<string, any>;

/** Queues a job, which must work, and gives it. */
export async function queueJob(service: Service, body: Json, key = userKey): Promise<Json> {
  const { status, body: job } = await call(service, 'POST', 'jobs', body, key);
  if (status !== 202) throw new Error(`${status}: ${JSON.stringify(job)}`);
  return job;
}

/** A job as it stands. */
export async function jobOf(service: Service, id: string, key = userKey): Promise<Json> {
  return (await call(service, 'GET', `jobs/${id}`, undefined, key)).body;
}

/** Waits for the end of a job. */
export async function jobEnded(service: Service, id: string, key = userKey): Promise<Json> {
  let job: Json = {};
  await until(async () => {
    job = await jobOf(service, id, key);
    return typeof job['ended_at'] === 'string';
  });
  return job;
}

/** Follows a job to the end of its stream. `seen` resolves when its text holds `until`. */
export function jobEvents(service: Service, id: string, options: { after?: string; until?: string } = {}) {
  const seen = Promise.withResolvers<void>();
  const read = async () => {
    const query = options.after === undefined ? '' : `?after=${options.after}`;
    const response = await fetch(`${service.url}/api/claude/jobs/${id}/events${query}`, {
      headers: { authorization: `Bearer ${userKey}` },
    });
    let text = '';
    for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      if (options.until !== undefined && text.includes(options.until)) seen.resolve();
    }
    const frames = text.trimEnd().split('\n\n');
    return { status: response.status, text, events: eventsIn(text), last: frames.at(-1)?.replace('data: ', '') };
  };
  return { seen: seen.promise, all: read() };
}
