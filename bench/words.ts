import { createHash } from 'node:crypto';

/** The tools that exist in every run of a benchmark. */
export const tools = ['Glob', 'Grep', 'Read'] as const;

const pattern = /\bbench-[0-9a-f]{16}\b/gu;

/** The word of one prompt: another one for every run, row, round and number, the same for both sides. */
export function wordOf(...parts: readonly (string | number)[]): string {
  return `bench-${createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16)}`;
}

export function promptWith(word: string): string {
  return `Say every word of mine that you know of, and which tools you have. My word is ${word}.`;
}

/** The words of a text, each once. */
export function wordsIn(text: string): string[] {
  return [...new Set(text.match(pattern))];
}

/**
 * What the model answers. It can be given only by a side that asked with exactly these words and offered exactly these
 * tools, so neither less work nor another conversation counts.
 */
export function answerWith(words: readonly string[], offered: readonly string[]): string {
  return `I know ${words.length} of your words: ${words.join(', ')}. I have ${offered.toSorted().join(', ')}. ${filler}`;
}

const filler = 'The rest of this answer is there for its length, so that it comes in more than one piece. '
  .repeat(3)
  .trim();
