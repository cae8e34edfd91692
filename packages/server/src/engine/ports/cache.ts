/** Keeps texts for a while. It may forget any of them at any time. */
export interface ResponseCache {
  /** What was set last under the key, as long as its time has not passed; else null. */
  get(key: string): Promise<string | null>;
  /**
   * Keeps a text of JSON for so many seconds in place of what was under the key. One that is too large is not kept, and
   * nothing is under the key then.
   */
  set(key: string, value: string, ttlSeconds: number): Promise<void>;
}
