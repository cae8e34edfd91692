/** One who asks, with a key of its own. */
export interface Caller {
  readonly key: string;
  /** Queries in a second. */
  readonly perSecond: number;
}

/** What the load program is to do: it gets this as JSON on its standard input, and prints a `Loaded`. */
export interface Load {
  readonly service: string;
  readonly callers: readonly Caller[];
  /**
   * `closed`: so many at once, by the callers in turn, each as soon as one is answered. `open`: each caller at its rate,
   * whatever is answered; before that the queue of the service is filled by those who are `filling`.
   */
  readonly loop: { readonly kind: 'closed'; readonly concurrency: number } | OpenLoop;
  /** Before the window, in seconds: what is under way at its beginning makes up for what is under way at its end. */
  readonly before: number;
  /** Length of the window, in seconds. */
  readonly seconds: number;
  /** Makes the words of the prompts those of this load alone. */
  readonly name: string;
}

export interface OpenLoop {
  readonly kind: 'open';
  /** The places of the callers that ask, one after the other, until one of them is refused. */
  readonly filling: readonly number[];
  /** So many are asked at most until then. */
  readonly most: number;
}

/** What became of the queries of a caller in the window. */
export interface Counts {
  /** Sent in the window. */
  asked: number;
  /** Answered rightly in the window. */
  right: number;
  /** Sent in the window, and refused because there is too much to do. */
  refused: number;
  /** Ended in the window without an answer, as their time was up. */
  late: number;
}

export interface Loaded {
  /** In the order of the callers. */
  readonly callers: readonly Counts[];
  /** From sending to the last byte of each of those refusals, in milliseconds. */
  readonly refusalMs: readonly number[];
  /** At any time: answers that are none of these. */
  readonly wrong: number;
  readonly problems: readonly string[];
  /** Of the window, measured. */
  readonly seconds: number;
  /** Seconds of a core that asking took in the window. */
  readonly cpuSeconds: number;
  /** The 99 % quantile of how late this program itself was, in milliseconds: no figure of it is better than that. */
  readonly lagMs: number;
}
