import { webhookTypes, type WebhookType } from '@sallyport/protocol';
import { isoTime } from './clock.ts';
import { SallyportError } from './errors.ts';
import { newId } from './ids.ts';
import type { NewDelivery, WebhookSecretStore, WebhookSender } from './ports.ts';

/** What is needed to know whether webhooks of a tenant can be sent. */
export interface WebhookCheckParts {
  readonly webhookSecrets: Pick<WebhookSecretStore, 'get'>;
  readonly webhookSender: Pick<WebhookSender, 'refusal'>;
}

/**
 * Refuses what could never be delivered, before work begins for it. Names are not looked up: where they lead is judged
 * whenever something is sent. Rejects with `webhook_url_refused`, and with `webhook_secret_missing` when the tenant has
 * no secret.
 */
export async function checkWebhook(parts: WebhookCheckParts, tenant: string, url: string): Promise<void> {
  const refusal = parts.webhookSender.refusal(url);
  if (refusal !== null) throw new SallyportError('webhook_url_refused', { detail: `The webhook address ${refusal}.` });
  if ((await parts.webhookSecrets.get(tenant)) === null) throw new SallyportError('webhook_secret_missing');
}

/** What a webhook tells: a job as its client reads it. */
export interface ToldJob {
  readonly job_id: string;
  readonly status: string;
  /** With its `messages`, where there are any. */
  readonly result?: object | null;
}

/** Largest body, in bytes. */
export const mostBodyBytes = 256 * 1024;

/**
 * A message about a job that has ended, to be stored with that end. The URL must be one that `checkWebhook` let pass.
 * Throws when the job has not ended.
 */
export function newDelivery(tenant: string, url: string, job: ToldJob, at: number): NewDelivery {
  const type = webhookTypes.find((one) => one === `job.${job.status}`);
  if (type === undefined) throw new Error(`job ${job.job_id} is ${job.status}, of which no webhook tells`);
  return {
    tenant,
    id: newId('hook'),
    type,
    job: job.job_id,
    url: new URL(url).href,
    body: bodyOf(type, job, at),
    createdAt: at,
  };
}

/** Of what is too large the messages are left out, then the whole result, then all that is long. */
function bodyOf(type: WebhookType, job: ToldJob, at: number): string {
  const { messages: _, ...result } = (job.result ?? {}) as Record<string, unknown>;
  const short = Object.entries(job).filter(([, value]) => (JSON.stringify(value) ?? '').length <= 2000);
  const truncated = true;
  const smaller: readonly object[] = [
    { ...job, result, truncated },
    { ...job, result: null, truncated },
    { ...Object.fromEntries(short), truncated },
  ];
  const bodies = [job, ...smaller].map((data) => () => JSON.stringify({ type, timestamp: isoTime(at), data }));
  for (const body of bodies) {
    const text = body();
    if (Buffer.byteLength(text) <= mostBodyBytes) return text;
  }
  throw new Error(`job ${job.job_id} has too many fields for a webhook`);
}
