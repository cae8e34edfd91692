import { ok } from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { openStores, type Stores } from '../stores/stores.ts';
import { anEntry } from '../testing/audit-entries.ts';
import { aDirectory } from '../testing/directory.ts';
import { aDelivery } from '../testing/webhook-stores.ts';
import { newWebhookSecret } from './ids.ts';
import { MovedClock } from './keys-support.ts';
import type { NewDelivery, StoredDelivery, WebhookAnswer, WebhookRequest } from './ports.ts';
import { dispatchBounds, WebhookDispatcher, type DispatcherParts } from './webhook-dispatcher.ts';
import { createSecretBox } from './webhook-secrets.ts';

export const dayMs = 24 * 3_600_000;

/** A message on its way, which the test ends. */
export interface Sent {
  readonly request: WebhookRequest;
  readonly signal: AbortSignal;
  answer(status: number, retryAfter?: string): void;
  fail(problem: Extract<WebhookAnswer, { status: null }>['problem']): void;
}

/** Dispatchers over one store, whose clock and receivers are the test's. */
export async function dispatcherBench(t: TestContext) {
  const clock = new MovedClock();
  const running: WebhookDispatcher[] = [];
  const sent: Sent[] = [];
  t.after(async () => {
    for (const one of sent) one.answer(200);
    await Promise.all(running.map((one) => one.close()));
    await stores.close();
  });
  const stores = await openStores({ dataDir: aDirectory(t), clock });
  const box = createSecretBox(async () => 'k'.repeat(32));
  const secret = newWebhookSecret();
  const store = async (tenant: string) => {
    const sealed = { sealed: await box.seal(tenant, secret), createdAt: 1, createdBy: 'admin' };
    await stores.webhookSecrets.rotate(tenant, sealed, 1, anEntry('secret', tenant));
  };
  await store('default');
  const log: string[] = [];
  const say = (level: string) => (data: object, message: string) =>
    void log.push(`${level} ${message} ${JSON.stringify(data)}`);
  const send = (request: WebhookRequest, signal: AbortSignal) =>
    new Promise<WebhookAnswer>((resolve) => {
      const fail: Sent['fail'] = (problem) => resolve({ status: null, problem });
      const answer: Sent['answer'] = (status, retryAfter) => resolve({ status, retryAfter });
      signal.addEventListener('abort', () => fail('interrupted'));
      sent.push({ request, signal, answer, fail });
    });
  const parts: DispatcherParts = {
    deliveries: stores.deliveries,
    webhookSecrets: stores.webhookSecrets,
    webhookSender: { send },
    box,
    clock,
    logger: { info: say('info'), warn: say('warn'), error: say('error') },
    bounds: { ...dispatchBounds, pollMs: 1_000_000, closeMs: 1_000_000, keepMs: 30 * dayMs },
  };
  const dispatcher = (changes: Partial<DispatcherParts> = {}) => {
    const made = new WebhookDispatcher({ ...parts, ...changes });
    running.push(made);
    return made;
  };
  /** Adds messages that are due now. */
  const add = async (...given: Partial<NewDelivery>[]) => {
    for (const [index, part] of given.entries()) {
      await stores.deliveries.add(aDelivery(`hook-${index}`, { createdAt: clock.now(), ...part }));
    }
  };
  return { clock, stores, secret, store, sent, log, parts, dispatcher, add };
}

/** Waits until it is so. Gives up after many seconds, so that a test that never passes ends. */
export async function until(check: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await check()); tries += 1) {
    if (tries === 4000) throw new Error(`it never came true: ${check.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export async function found({ deliveries }: Stores, id = 'hook-0'): Promise<StoredDelivery> {
  const all = await deliveries.list({ tenant: 'default', state: null, before: null, limit: 200 });
  const one = all.find((each) => each.id === id);
  ok(one);
  return one;
}

export const idOf = ({ request }: Sent) => request.headers['webhook-id'];
