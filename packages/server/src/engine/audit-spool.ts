import type { AuditEntry, AuditStore, Log } from './ports.ts';

/** How long lines gather, in milliseconds. */
const gatherMs = 20;
/** How long until lines are tried again that could not be written, in milliseconds. */
const againMs = 1000;
/** Most lines that nobody waits for: whoever comes then waits. */
const maxUnwritten = 1000;

/**
 * Lines for the audit log of what runs nothing and changes nothing, such as the reading of a stored answer: they are
 * written together a moment later, so that nobody waits for the disk. While they cannot be written, nothing of the kind
 * happens: whoever adds a line then waits for it, and hears that it failed.
 */
export class AuditSpool {
  readonly #audit: Pick<AuditStore, 'append'>;
  readonly #log: Log;
  #gathered: AuditEntry[] = [];
  /** How many were added and are not known to be written. */
  #unwritten = 0;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();
  #failing = false;
  #closed = false;

  constructor(audit: Pick<AuditStore, 'append'>, log: Log) {
    this.#audit = audit;
    this.#log = log;
  }

  /** Resolves when the line is on its way. Rejects when the log cannot be written; the line is not in it then. */
  async add(line: AuditEntry): Promise<void> {
    if (this.#failing || this.#unwritten >= maxUnwritten) return await this.#write([line]);
    this.#gathered.push(line);
    this.#unwritten += 1;
    this.#writeIn(gatherMs);
  }

  #writeIn(ms: number): NodeJS.Timeout {
    return (this.#timer ??= setTimeout(() => void this.flush().catch(() => undefined), ms));
  }

  /** Resolves when all that was added is in the log. Rejects when it cannot be written: it is tried again the next time. */
  flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#writing = this.#writing.catch(() => undefined).then(() => this.#write([]));
    return this.#writing;
  }

  /** Writes what is left, and tries nothing again by itself. Rejects as `flush` does. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.flush();
  }

  /** Writes what has gathered, and these lines after it. */
  async #write(lines: readonly AuditEntry[]): Promise<void> {
    const gathered = this.#gathered;
    this.#gathered = [];
    if (gathered.length + lines.length === 0) return;
    try {
      await this.#audit.append([...gathered, ...lines]);
      this.#failing = false;
      this.#unwritten -= gathered.length;
    } catch (error) {
      this.#failing = true;
      this.#gathered = [...gathered, ...this.#gathered];
      this.#log.error({ err: error, lines: gathered.length }, 'lines of the audit log could not be written yet');
      if (!this.#closed) this.#writeIn(againMs).unref();
      throw error;
    }
  }
}
