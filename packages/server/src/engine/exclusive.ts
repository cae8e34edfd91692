/** Has work under one name done one after the other, in the order of the calls. */
export class Exclusive {
  readonly #last = new Map<string, Promise<unknown>>();

  /** Does the work when all that was given before under the name is over, however it went. */
  async run<T>(name: string, work: () => Promise<T>): Promise<T> {
    const done = (this.#last.get(name) ?? Promise.resolve()).then(work);
    const over = done.catch(() => undefined);
    this.#last.set(name, over);
    try {
      return await done;
    } finally {
      if (this.#last.get(name) === over) this.#last.delete(name);
    }
  }
}
