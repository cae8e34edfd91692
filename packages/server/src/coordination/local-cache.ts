import type { Clock } from '../engine/clock.ts';
import type { ResponseCache } from '../engine/ports.ts';

export interface LocalCacheOptions {
  readonly clock: Pick<Clock, 'monotonic'>;
  /** Most memory for all entries together, in bytes. One entry may have a sixteenth of it. */
  readonly maxBytes: number;
}

interface Entry {
  readonly value: string;
  /** By the clock of `monotonic`. */
  readonly until: number;
  readonly bytes: number;
}

/** Bytes that an entry takes besides its texts, at most. */
const overhead = 300;

/** Keeps texts in the memory of this process; those that were asked for longest ago go first. Never rejects. */
export class LocalCache implements ResponseCache {
  readonly #clock: LocalCacheOptions['clock'];
  readonly #maxBytes: number;
  /** In the order of their last use. */
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;

  constructor({ clock, maxBytes }: LocalCacheOptions) {
    this.#clock = clock;
    this.#maxBytes = maxBytes;
  }

  /** What is kept takes so much memory at most. */
  get bytes(): number {
    return this.#bytes;
  }

  async get(key: string): Promise<string | null> {
    const entry = this.#take(key);
    if (!entry || entry.until <= this.#clock.monotonic()) return null;
    this.#put(key, entry);
    return entry.value;
  }

  async set(key: string, value: string, ttlSeconds: number): Promise<void> {
    this.#take(key);
    // A character takes two bytes at most.
    const bytes = overhead + 2 * (key.length + value.length);
    if (bytes > this.#maxBytes / 16) return;
    this.#put(key, { value, bytes, until: this.#clock.monotonic() + ttlSeconds * 1000 });
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.#maxBytes) return;
      this.#take(oldest);
    }
  }

  #put(key: string, entry: Entry): void {
    this.#entries.set(key, entry);
    this.#bytes += entry.bytes;
  }

  #take(key: string): Entry | undefined {
    const entry = this.#entries.get(key);
    if (entry && this.#entries.delete(key)) this.#bytes -= entry.bytes;
    return entry;
  }
}
