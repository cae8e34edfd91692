import { createHash } from 'node:crypto';

/** The tools that exist in every run of a benchmark. */
export const tools = ['Glob', 'Grep', 'Read'] as const;

const pattern = /\bbench-[0-9a-f]{16}\b/gu;

/** The word of one prompt: another one for every run, row, round and number, the same for both sides. */
export function wordOf(...parts: readonly (string | number)[]): string {
  return `bench-${createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16)}`;
}

/** What is asked with a word. A wish is `slowly` or `atLength`. */
export function promptWith(word: string, wish = ''): string {
  return `Say every word of mine that you know of, and which tools you have. My word is ${word}.${wish}`;
}

/** The wish that the model takes a third of a second over an answer of usual length. */
export const slowly = ' Speak slowly.';
/** Tokens of four characters in a second. */
export const slowRate = 300;

/** The wish that the answer has so many characters more. */
export function atLength(chars: number): string {
  return ` Say ${chars} characters more.`;
}

/** What a text wishes of the answer to it. */
export function wishesIn(text: string): { readonly slowly: boolean; readonly more: string } {
  const chars = Number(/ Say (\d{1,7}) characters more\./u.exec(text)?.[1] ?? 0);
  return { slowly: text.includes(slowly), more: filler.repeat(Math.ceil(chars / filler.length)).slice(0, chars) };
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
