import { secretKey } from './config/admin-key.ts';
import type { Settings } from './config/settings.ts';
import { systemClock } from './engine/clock.ts';
import type { Log, NewDelivery } from './engine/ports.ts';
import { createWebhookAdmin, type WebhookAdmin } from './engine/webhook-admin.ts';
import { dispatchBounds, WebhookDispatcher } from './engine/webhook-dispatcher.ts';
import { createSecretBox } from './engine/webhook-secrets.ts';
import { checkWebhook, newDelivery, type ToldJob } from './engine/webhooks.ts';
import type { Stores } from './stores/stores.ts';
import { createWebhookSender } from './webhooks/sender.ts';

/** The part that sends webhooks. */
export interface Webhooks {
  readonly admin: WebhookAdmin;
  /** Rejects with `webhook_url_refused` or `webhook_secret_missing` where nothing could ever be sent. */
  check(tenant: string, url: string): Promise<void>;
  /** The message that tells of the end of a job, to be stored with it. */
  delivery(tenant: string, url: string, job: ToldJob): NewDelivery;
  /** To be called when a webhook was stored that is due. */
  nudge(): void;
  /** Begins to send what is due. */
  start(): void;
  /** Sends no more; resolves when nothing is under way. */
  close(): Promise<void>;
}

const dayMs = 86_400_000;

/** Puts the sending of webhooks together; nothing is sent before it is started. */
export function composeWebhooks(settings: Settings, stores: Stores, logger: Log): Webhooks {
  const { dataDir, secretKey: given, webhookPrivateNetworks: privateNetworks, retentionDays } = settings;
  if (settings.databaseUrl !== null && given === null) {
    logger.warn(
      {},
      'servers that share a database sign webhooks only with the same SALLYPORT_SECRET_KEY; it is not set',
    );
  }
  let own: Promise<string> | null = null;
  const ownKey = () =>
    (own ??= secretKey(dataDir).catch((error: unknown) => {
      own = null; // it may work the next time
      throw error;
    }));
  const box = createSecretBox(async () => given ?? (await ownKey()));
  const webhookSender = createWebhookSender({ privateNetworks });
  const bounds = { ...dispatchBounds, keepMs: Math.max(1, retentionDays) * dayMs };
  const dispatcher = new WebhookDispatcher({ ...stores, box, webhookSender, clock: systemClock, logger, bounds });
  const nudge = () => dispatcher.nudge();
  return {
    admin: createWebhookAdmin({ ...stores, box, clock: systemClock, nudge }),
    check: (tenant, url) => checkWebhook({ webhookSecrets: stores.webhookSecrets, webhookSender }, tenant, url),
    delivery: (tenant, url, job) => newDelivery(tenant, url, job, systemClock.now()),
    nudge,
    start: () => dispatcher.start(),
    close: () => dispatcher.close(),
  };
}
