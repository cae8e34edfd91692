import type { Answer } from './peers.ts';
import type { Stage, StageOptions } from './stage.ts';
import { median, quantile } from './statistics.ts';
import { answerWith, tools } from './words.ts';

/** In what something is measured. */
export type Unit = 'ms' | '1/s' | 'share' | 'µs' | 'KiB';

/** What a row has to reach: a ratio of the medians of two of its sides, or the median of one. */
export interface Goal {
  readonly of: string;
  /** Missing: the figure of `of` itself is what counts. */
  readonly to?: string;
  /** `difference`: the one less the other, in the figure's unit. Default: `ratio`. */
  readonly by?: 'ratio' | 'difference';
  /** What of a side is compared; default: the median of the values of its rounds. */
  readonly figure?: Figure;
  readonly atMost?: number;
  readonly atLeast?: number;
}

/** What the rounds of one side come to. */
export interface Figure {
  readonly name: string;
  readonly unit: Unit;
  /** Of one round or of several, each with right answers only. */
  of(rounds: readonly Sample[]): number;
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
  /** What a reader of the figure should know of this round. */
  readonly note?: string;
  /** What else was measured, by name. */
  readonly more?: Readonly<Record<string, number>>;
}

/** The value below which a share of the single figures of all rounds lies. */
export function quantileOfAll(share: number, unit: Unit): Figure {
  const of = (rounds: readonly Sample[]) =>
    quantile(
      rounds.flatMap(({ raw }) => raw),
      share,
    );
  return { name: `p${share * 100}`, unit, of };
}

/** The median, over the rounds, of something that was measured besides. A round that lacks it counts as 0. */
export function medianOf(name: string, unit: Unit): Figure {
  return { name, unit, of: (rounds) => median(rounds.map(({ more }) => more?.[name] ?? 0)) };
}

/** One figure to reach, with how it is measured. */
export interface Row {
  /** As the table of figures names it. */
  readonly id: string;
  readonly what: string;
  readonly how: string;
  readonly unit: Unit;
  /** What is compared; within a round in this order. */
  readonly sides: readonly string[];
  /** Several are told one after the other, each by the same rounds. */
  readonly goal: Goal | readonly Goal[];
  /** What of the stage is not as it is by default. */
  readonly stage?: StageOptions;
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
