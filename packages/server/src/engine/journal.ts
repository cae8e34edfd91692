import type { Journal } from './admin.ts';
import type { Clock } from './clock.ts';
import { SallyportError } from './errors.ts';
import type { AuditEntry, AuditStore } from './ports.ts';

const hourMs = 3_600_000;
/** What was written lately is remembered of so many, the latest. */
const maxRemembered = 10_000;
/** Refusals get at most so many lines in any so many milliseconds, all of them together. */
const maxRefusalLines = 10;
const refusalsMs = 10_000;

/** What a journal is made of. */
export interface JournalParts {
  readonly audit: Pick<AuditStore, 'append'>;
  readonly clock: Clock;
}

type Line = Pick<AuditEntry, 'tenant' | 'actor' | 'action' | 'subject' | 'details'>;

/**
 * A journal in the audit log. Each call resolves when its line is durable, or need not be written; it rejects with
 * `storage_full`, or else with `not_ready`, when it cannot be written, and the next call tries again. Memory is bounded:
 * of more than 10,000 pairs in an hour some have more than one line. Refusals have at most 10 lines in any 10 seconds;
 * those beyond are counted, and the next line has their number.
 */
export function createJournal(parts: JournalParts): Journal {
  const write = (line: Line): Promise<void> => append(parts, line);
  const hourly = new Hourly(parts.clock);
  const refusals = new Refusals(parts.clock, (subject, details) =>
    write({ tenant: 'default', actor: 'anonymous', action: 'auth.refused', subject, details }),
  );
  return {
    accepted({ tenant, key, role }, address) {
      const line = { tenant, actor: key, action: 'auth.accepted', subject: address, details: { role } };
      return hourly.once(line, write);
    },
    refused: (address, code) => refusals.count(address, code),
    forbidden({ tenant, key, role }, operation) {
      const line = { tenant, actor: key, action: 'auth.forbidden', subject: operation, details: { role } };
      return hourly.once(line, write);
    },
    read: ({ tenant, key }, operation) =>
      write({ tenant, actor: key, action: 'admin.read', subject: operation, details: {} }),
  };
}

async function append({ audit, clock }: JournalParts, line: Line): Promise<void> {
  try {
    await audit.append([{ ...line, at: clock.now(), ref: null }]);
  } catch (thrown) {
    const error = SallyportError.from(thrown);
    throw error.code === 'internal' ? new SallyportError('not_ready', { cause: thrown }) : error;
  }
}

/** Has each line written once an hour. */
class Hourly {
  readonly #clock: Clock;
  /** Those that were asked for longest ago come first. */
  readonly #written = new Map<string, { readonly at: number; readonly done: Promise<void> }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Resolves when the line was written within the last hour. All who ask for one while it is written wait for it. */
  async once(line: Line, write: (line: Line) => Promise<void>): Promise<void> {
    const name = JSON.stringify([line.action, line.tenant, line.actor, line.subject]);
    const now = this.#clock.monotonic();
    const known = this.#written.get(name);
    const written = known && now - known.at < hourMs ? known : { at: now, done: write(line) };
    this.#written.delete(name);
    this.#written.set(name, written);
    if (this.#written.size > maxRemembered) this.#forgetOldest();
    try {
      await written.done;
    } catch (error) {
      if (this.#written.get(name) === written) this.#written.delete(name);
      throw error;
    }
  }

  #forgetOldest(): void {
    const [oldest] = this.#written.keys();
    if (oldest !== undefined) this.#written.delete(oldest);
  }
}

type RefusalCode = Parameters<Journal['refused']>[1];

/** Has refusals written, many as one line. */
class Refusals {
  readonly #clock: Clock;
  readonly #write: (address: string, details: { code: RefusalCode; count: number }) => Promise<void>;
  /** Times of the last lines. */
  readonly #lines = new Set<{ readonly at: number }>();
  /** Refusals that no line has told. */
  #untold = 0;

  constructor(clock: Clock, write: (address: string, details: { code: RefusalCode; count: number }) => Promise<void>) {
    this.#clock = clock;
    this.#write = write;
  }

  async count(address: string, code: RefusalCode): Promise<void> {
    this.#untold += 1;
    const at = this.#clock.monotonic();
    for (const line of this.#lines) if (at - line.at >= refusalsMs) this.#lines.delete(line);
    if (this.#lines.size >= maxRefusalLines) return;
    const line = { at };
    this.#lines.add(line);
    const count = this.#untold;
    this.#untold = 0;
    try {
      await this.#write(address, { code, count });
    } catch (error) {
      this.#lines.delete(line);
      this.#untold += count;
      throw error;
    }
  }
}
