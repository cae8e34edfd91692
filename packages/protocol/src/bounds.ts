/** The bounds of request fields. An operator may raise them; these are the defaults. Lengths count Unicode characters. */
export interface Bounds {
  /** Longest `prompt`, in characters. */
  readonly promptChars: number;
  /** Longest `message` of a conversation, in characters. */
  readonly messageChars: number;
  /** Longest `system_prompt`, in characters. */
  readonly systemPromptChars: number;
  /** Largest `max_turns`, in model calls. */
  readonly maxTurns: number;
  /** Smallest `timeout`, in seconds. */
  readonly timeoutMinSeconds: number;
  /** Largest `timeout`, in seconds. */
  readonly timeoutMaxSeconds: number;
  /** Most entries of `files`. */
  readonly files: number;
  /** Largest content of all `files` together, in bytes of UTF-8. */
  readonly filesBytes: number;
}

export const defaultBounds: Bounds = {
  promptChars: 10_000,
  messageChars: 5_000,
  systemPromptChars: 2_000,
  maxTurns: 10,
  timeoutMinSeconds: 10,
  timeoutMaxSeconds: 300,
  files: 200,
  filesBytes: 4_000_000,
};
