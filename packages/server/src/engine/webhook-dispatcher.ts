import type { Clock } from './clock.ts';
import { randomFraction } from './ids.ts';
import type { DeliveryStore, FailedTry, Log, StoredDelivery, WebhookSecretStore, WebhookSender } from './ports.ts';
import { openSecrets, signedHeaders, type SecretBox } from './webhook-secrets.ts';

/** How webhooks are sent. Times in milliseconds. */
export interface DispatchBounds {
  /** How often it is looked for what is due, besides when it is known. */
  readonly pollMs: number;
  /** How long a message that is being sent is left alone by others: longer than sending ever takes. */
  readonly leaseMs: number;
  /** How long after each failed try the next one follows; after the last of them it is given up. */
  readonly waitsMs: readonly number[];
  /** Longest wait that a receiver may ask for. */
  readonly longestAskedMs: number;
  /** Most messages under way: in all, to a host, of a tenant. */
  readonly atOnce: { readonly all: number; readonly host: number; readonly tenant: number };
  /** How long a closing service lets a try end by itself. */
  readonly closeMs: number;
  /** How long messages that have ended are kept. */
  readonly keepMs: number;
}

const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;

/** As Standard Webhooks proposes: eight tries in 28 hours. */
export const dispatchBounds: Omit<DispatchBounds, 'keepMs'> = {
  pollMs: second,
  leaseMs: minute,
  waitsMs: [5 * second, 5 * minute, 30 * minute, 2 * hour, 5 * hour, 10 * hour, 10 * hour],
  longestAskedMs: hour,
  atOnce: { all: 16, host: 4, tenant: 8 },
  closeMs: 2 * second,
};

/** The share of a wait by which it is longer at most, so that what failed together is not tried together. */
const jitter = 0.1;
/** Messages that are deleted in one go, and how often it is looked for them. */
const swept = 500;
const sweepMs = 10 * minute;

export interface DispatcherParts {
  readonly deliveries: DeliveryStore;
  readonly webhookSecrets: Pick<WebhookSecretStore, 'get'>;
  readonly webhookSender: Pick<WebhookSender, 'send'>;
  readonly box: Pick<SecretBox, 'open'>;
  readonly clock: Clock;
  readonly logger: Log;
  readonly bounds: DispatchBounds;
}

/** Whose place a message takes that is under way. */
interface Underway {
  readonly host: string;
  readonly tenant: string;
}

/**
 * Sends the messages that are due, of all tenants. Each is tried by one process at a time, and at least once: one that
 * was killed before it noted how a try ended leaves the message to be sent again, under the same id.
 */
export class WebhookDispatcher {
  readonly #parts: DispatcherParts;
  readonly #underway = new Map<Promise<void>, Underway>();
  readonly #stop = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #taking: Promise<void> | null = null;
  #again = false;
  #closed = false;
  #failing = false;
  #sweepAt = 0;

  constructor(parts: DispatcherParts) {
    this.#parts = parts;
  }

  /** Sends what is due, and looks for it again and again until it is closed. */
  start(): void {
    this.nudge();
    this.#timer = setInterval(() => this.nudge(), this.#parts.bounds.pollMs).unref();
  }

  /** Looks for what is due at once. */
  nudge(): void {
    if (this.#closed) return;
    this.#again = true;
    this.#taking ??= this.#takeAll().finally(() => {
      this.#taking = null;
      if (this.#again) this.nudge(); // since it was looked at last
    });
  }

  /** Takes no more, lets what is under way end for a moment, and gives back what has not ended then. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    await this.#taking;
    const timer = setTimeout(() => this.#stop.abort(), this.#parts.bounds.closeMs);
    await Promise.all(this.#underway.keys());
    clearTimeout(timer);
  }

  async #takeAll(): Promise<void> {
    try {
      while (this.#again && !this.#closed) {
        this.#again = false;
        await this.#sweep();
        while (!this.#closed && this.#underway.size < this.#parts.bounds.atOnce.all) {
          const delivery = await this.#take();
          if (delivery === null) break;
          this.#begin(delivery);
        }
      }
      this.#failing = false;
    } catch (error) {
      this.#again = false;
      if (!this.#failing) this.#parts.logger.error({ err: error }, 'webhooks could not be looked for');
      this.#failing = true;
    }
  }

  #take(): Promise<StoredDelivery | null> {
    const { deliveries, clock, bounds } = this.#parts;
    const now = clock.now();
    const { host, tenant } = bounds.atOnce;
    return deliveries.take({
      now,
      until: now + bounds.leaseMs,
      exceptHosts: this.#full('host', host),
      exceptTenants: this.#full('tenant', tenant),
    });
  }

  /** The hosts, or tenants, that have all the places they may have. */
  #full(part: keyof Underway, most: number): string[] {
    const counts = new Map<string, number>();
    for (const { [part]: name } of this.#underway.values()) counts.set(name, (counts.get(name) ?? 0) + 1);
    return [...counts].filter(([, count]) => count >= most).map(([name]) => name);
  }

  #begin(delivery: StoredDelivery): void {
    const { host } = new URL(delivery.url);
    const sending = this.#try(delivery)
      .catch((error: unknown) =>
        // It is due again when its lease is over.
        this.#parts.logger.error(
          { err: error, webhook: delivery.id },
          'a webhook could not be tried, or how that ended could not be noted',
        ),
      )
      .finally(() => {
        this.#underway.delete(sending);
        this.nudge();
      });
    this.#underway.set(sending, { host, tenant: delivery.tenant });
  }

  async #try(delivery: StoredDelivery): Promise<void> {
    const { deliveries, clock, webhookSender } = this.#parts;
    const headers = await this.#sign(delivery);
    if (headers === null) return this.#fail(delivery, { problem: 'unsigned', status: null }, 0);
    const { url, body } = delivery;
    const answer = await webhookSender.send({ url, headers, body }, this.#stop.signal);
    if (answer.status === null) return this.#fail(delivery, answer, 0);
    const { status, retryAfter } = answer;
    if (status >= 200 && status < 300) return deliveries.delivered(delivery, status, clock.now());
    return this.#fail(delivery, { problem: 'status', status }, askedWait(status, retryAfter, clock.now()));
  }

  /** Null when it cannot be signed, as the secret is gone or is sealed with another key. */
  async #sign(delivery: StoredDelivery): Promise<Record<string, string> | null> {
    const { webhookSecrets, box, clock, logger } = this.#parts;
    const { tenant } = delivery;
    const now = clock.now();
    const stored = await webhookSecrets.get(tenant);
    if (stored === null) return null;
    try {
      return signedHeaders(await openSecrets(box, tenant, stored, now), delivery, now);
    } catch (error) {
      const why = 'a webhook secret cannot be read: SALLYPORT_SECRET_KEY is not the one that it was made under';
      logger.error({ err: error, tenant }, why);
      return null;
    }
  }

  /** `asked`: the wait that the receiver asked for. */
  async #fail(delivery: StoredDelivery, failure: FailedTry, asked: number): Promise<void> {
    const { deliveries, clock, bounds, logger } = this.#parts;
    const { tenant, id, type, tries, url } = delivery;
    const { problem, status } = failure;
    const now = clock.now();
    const wait = bounds.waitsMs[tries - 1];
    const dueAt = (): number | null => {
      if (problem === 'interrupted') return now; // by this service itself
      if (status === 410 || wait === undefined) return null;
      const own = Math.round(wait * (1 + jitter * randomFraction()));
      return now + Math.max(own, Math.min(asked, bounds.longestAskedMs));
    };
    const next = dueAt();
    await deliveries.failed(delivery, { problem, status }, now, next);
    const told = { tenant, webhook: id, type, host: new URL(url).host, tries, problem, status };
    if (next === null) logger.warn(told, 'a webhook was given up');
    else logger.info(told, 'a webhook was not taken; it is tried again');
  }

  async #sweep(): Promise<void> {
    const { deliveries, clock, bounds } = this.#parts;
    if (clock.monotonic() < this.#sweepAt) return;
    const found = await deliveries.sweep(clock.now() - bounds.keepMs, swept);
    this.#sweepAt = found === swept ? 0 : clock.monotonic() + sweepMs;
  }
}

/** The wait in milliseconds that a receiver asks for with `Retry-After`, in seconds or as a date; 0 when with none. */
function askedWait(status: number, retryAfter: string | undefined, now: number): number {
  if (retryAfter === undefined || (status !== 429 && status !== 503)) return 0;
  const text = retryAfter.trim();
  if (/^\d{1,9}$/u.test(text)) return Number(text) * second;
  const date = Date.parse(text);
  return Number.isNaN(date) ? 0 : Math.max(0, date - now);
}
