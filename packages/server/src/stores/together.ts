/** Somebody's part of a commit. */
interface Part<T> {
  readonly items: readonly T[];
  readonly done: PromiseWithResolvers<void>;
}

/**
 * Commits what many add at about the same time in one transaction: the disk is waited for once. Each is told when its own
 * items are committed, or that they are not; items keep the order in which they were added.
 */
export class Together<T> {
  readonly #commit: (items: readonly T[]) => Promise<void>;
  #waiting: Part<T>[] = [];
  #committing = false;

  constructor(commit: (items: readonly T[]) => Promise<void>) {
    this.#commit = commit;
  }

  /** Resolves when the items are committed. Rejects when they could not be, alone either. */
  add(items: readonly T[]): Promise<void> {
    const part = { items, done: Promise.withResolvers<void>() };
    this.#waiting.push(part);
    if (!this.#committing) {
      this.#committing = true;
      // Whoever comes in this turn of the loop goes along.
      setImmediate(() => void this.#work());
    }
    return part.done.promise;
  }

  async #work(): Promise<void> {
    while (this.#waiting.length > 0) {
      const parts = this.#waiting;
      this.#waiting = [];
      const failed = await this.#try(parts);
      // One that cannot be committed does not take the others with it.
      if (failed && parts.length > 1) for (const part of parts) settle(part, await this.#try([part]));
      else for (const part of parts) settle(part, failed);
    }
    this.#committing = false;
  }

  /** Null, or why the transaction failed. */
  async #try(parts: readonly Part<T>[]): Promise<{ readonly reason: unknown } | null> {
    try {
      await this.#commit(parts.flatMap(({ items }) => items));
      return null;
    } catch (reason) {
      return { reason };
    }
  }
}

function settle<T>({ done }: Part<T>, failed: { readonly reason: unknown } | null): void {
  if (failed === null) done.resolve();
  else done.reject(failed.reason);
}
