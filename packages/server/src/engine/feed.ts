import type { StreamItem } from '@sallyport/protocol';

/** Whoever is told events as they come. None of its functions may throw. */
export interface Reader<T = StreamItem> {
  /**
   * Takes the next event. False: it has enough, and is told no more before `Following.goOn`. `more`: others follow at
   * once, so that they can be sent together.
   */
  take(item: T, more?: boolean): boolean;
  /** Nothing comes any more. */
  end(): void;
  /** Nothing comes any more, because of the error. */
  fail(error: unknown): void;
}

/** A reader that is being told. */
export interface Following {
  /** The reader can take more. */
  goOn(): void;
  /** The reader is told nothing any more, not even the end. */
  stop(): void;
}

/** Events that are told to a reader as they come, or given to a loop as it asks for them. Leaving the loop stops. */
export interface Feed<T = StreamItem> extends AsyncIterable<T> {
  /** Begins to tell a reader, which may be told something before this returns. To be called once. */
  follow(reader: Reader<T>): Following;
}

/** A feed by what it does with a reader. */
export function feed<T = StreamItem>(follow: Feed<T>['follow']): Feed<T> {
  return { follow, [Symbol.asyncIterator]: () => new Pulling(follow) };
}

const held = 64;

/** Gives what a reader is told one after the other. A loop that is slow holds few events. */
class Pulling<T> implements AsyncIterator<T, void>, Reader<T> {
  readonly #following: Following;
  #items: T[] = [];
  #over: { readonly failure: unknown; readonly failed: boolean } | null = null;
  #wake = (): void => undefined;

  constructor(follow: Feed<T>['follow']) {
    this.#following = follow(this);
  }

  take(item: T): boolean {
    this.#items.push(item);
    this.#wake();
    return this.#items.length < held;
  }

  end(): void {
    this.#over = { failure: null, failed: false };
    this.#wake();
  }

  fail(failure: unknown): void {
    this.#over = { failure, failed: true };
    this.#wake();
  }

  async next(): Promise<IteratorResult<T, void>> {
    while (this.#items.length === 0 && !this.#over) await new Promise<void>((resolve) => (this.#wake = resolve));
    if (this.#items.length > 0) {
      const [item] = this.#items.splice(0, 1) as [T];
      if (this.#items.length === held - 1) this.#following.goOn();
      return { done: false, value: item };
    }
    const over = this.#over;
    this.#over = { failure: null, failed: false };
    if (over?.failed) throw over.failure;
    return { done: true, value: undefined };
  }

  async return(): Promise<IteratorResult<T, void>> {
    this.#following.stop();
    this.#items = [];
    this.end();
    return { done: true, value: undefined };
  }
}

/**
 * A feed of what a generator gives, which is asked for as much as its reader takes. When the reader stops, `stop` is
 * aborted and the generator closed.
 */
export function feedOf<T>(items: AsyncIterable<T>, stop?: AbortController): Feed<T> {
  return feed((reader) => {
    const source = items[Symbol.asyncIterator]();
    let stopped = false;
    let goOn = (): void => undefined;
    const pump = async (): Promise<void> => {
      for (;;) {
        const next = await source.next();
        if (stopped) return;
        if (next.done === true) return reader.end();
        if (!reader.take(next.value)) await new Promise<void>((resolve) => (goOn = resolve));
      }
    };
    pump().catch((error: unknown) => {
      if (!stopped) reader.fail(error);
    });
    return {
      goOn: () => goOn(),
      stop() {
        if (stopped) return;
        stopped = true;
        stop?.abort();
        goOn();
        const closing = async () => source.return?.();
        closing().catch(() => undefined); // nobody reads any more
      },
    };
  });
}
