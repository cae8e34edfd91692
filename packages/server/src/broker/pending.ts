/** Work that is under way. The promises must not reject. */
export class Pending {
  readonly #work = new Set<Promise<void>>();

  add(work: Promise<void>): void {
    this.#work.add(work);
    void work.finally(() => this.#work.delete(work));
  }

  /** Resolves when nothing is under way, what was added meanwhile included. */
  async none(): Promise<void> {
    while (this.#work.size > 0) await Promise.all(this.#work);
  }
}
