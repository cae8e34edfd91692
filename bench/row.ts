import type { Answer } from './peers.ts';
import type { Stage } from './stage.ts';
import { answerWith, tools } from './words.ts';

/** What a row has to reach: a ratio of the medians of its sides. */
export interface Goal {
  readonly of: string;
  readonly to: string;
  readonly atMost?: number;
  readonly atLeast?: number;
}

/** One round of one side. */
export interface Round {
  /** Length of a window of a row that counts, in seconds. */
  readonly seconds: number;
  /** The word of the prompt with this number: the same for each side, and never used again. */
  word(number: number): string;
}

export interface Sample {
  /** What was measured, in the row's unit; null when an answer was wrong. */
  readonly value: number | null;
  readonly right: number;
  readonly wrong: number;
  /** What was wrong, as far as it is worth telling. */
  readonly problems: readonly string[];
  /** The single figures behind the value. */
  readonly raw: readonly number[];
}

/** One figure to reach, with how it is measured. */
export interface Row {
  /** As the table of figures names it. */
  readonly id: string;
  readonly what: string;
  readonly how: string;
  readonly unit: 'ms' | '1/s';
  /** What is compared; within a round in this order. */
  readonly sides: readonly [string, string];
  readonly goal: Goal;
  /** How many rounds are measured, after one that is dropped. */
  readonly rounds: number;
  /** Default length of a window, in seconds. */
  readonly seconds: number;
  /** Measures one side for one round. Throws `NoFigure` when what it measures is not there. */
  measure(stage: Stage, side: string, round: Round): Promise<Sample>;
}

/** There is nothing to be measured; the message says why. */
export class NoFigure extends Error {}

/** The peer that a side names. */
export function peerOf(stage: Stage, side: string) {
  return side === 'naive' ? stage.naive : stage.sallyport;
}

/** Why an answer is not the one that these words must have, or null. */
export function problemOf({ problem, text, firstTextMs }: Answer, words: readonly string[]): string | null {
  if (problem !== null) return problem;
  if (firstTextMs === null) return 'there is no text';
  return text === answerWith(words, tools) ? null : `the answer is wrong: ${text.slice(0, 200)}`;
}

/** What is told of the problems of many answers. */
export function firstOf(problems: readonly (string | null)[]): string[] {
  return [...new Set(problems.filter((problem) => problem !== null))].slice(0, 3);
}
