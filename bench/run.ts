import { loadavg } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { Options } from './options.ts';
import { NoFigure, type Goal, type Row, type Sample } from './row.ts';
import { openStage, type Stage } from './stage.ts';
import { bootstrap, median, ratioOf, type Interval, type Random } from './statistics.ts';
import { wordOf } from './words.ts';

/** What one side of a row gave. */
export interface SideResult {
  readonly side: string;
  readonly rounds: readonly Sample[];
  readonly right: number;
  readonly wrong: number;
  /** Of the values of its rounds. Null when an answer was wrong. */
  readonly median: number | null;
  readonly interval: Interval | null;
}

/** What one row gave. */
export interface RowResult {
  readonly id: string;
  readonly what: string;
  readonly how: string;
  readonly unit: string;
  readonly goal: Goal;
  readonly jailed: boolean;
  /** Of the machine over the last minute, when the row began. */
  readonly load: number;
  readonly sides: readonly SideResult[];
  /** Null when there is none to be trusted; `reason` says why. */
  readonly ratio: number | null;
  readonly interval: Interval | null;
  readonly met: boolean | null;
  readonly reason: string | null;
}

/** Between two sides, so that what one leaves to do does not take from the other. */
const settleMs = 500;

/** Measures a row with both sides started anew. `name` makes the prompts those of this run alone. */
export async function runRow(
  row: Row,
  { rounds, seconds }: Pick<Options, 'rounds' | 'seconds'>,
  name: string,
  random: Random = Math.random,
): Promise<RowResult> {
  const { id, what, how, unit, goal } = row;
  const load = loadavg()[0] ?? 0;
  const stage = await openStage();
  const about = { id, what, how, unit, goal, jailed: stage.jailed, load };
  try {
    const samples = await measureAll(row, stage, rounds ?? row.rounds, seconds ?? row.seconds, name);
    return { ...about, ...judge(row, samples, random) };
  } catch (error) {
    if (!(error instanceof NoFigure)) throw error;
    return { ...about, sides: [], ratio: null, interval: null, met: null, reason: error.message };
  } finally {
    await stage.close();
  }
}

/** One round that is dropped, then the others; in each one side after the other. */
async function measureAll(row: Row, stage: Stage, rounds: number, seconds: number, name: string): Promise<Sample[][]> {
  const samples: Sample[][] = row.sides.map(() => []);
  for (let index = 0; index <= rounds; index += 1) {
    const word = (number: number) => wordOf(name, row.id, index, number);
    for (const [at, side] of row.sides.entries()) {
      await delay(settleMs);
      const sample = await row.measure(stage, side, { seconds, word });
      if (index > 0) samples[at]?.push(sample);
    }
  }
  return samples;
}

/** What the samples of the sides, in their order, say about a row. A single wrong answer leaves it without a figure. */
export function judge(
  { sides, goal }: Pick<Row, 'sides' | 'goal'>,
  samples: readonly (readonly Sample[])[],
  random: Random,
): Pick<RowResult, 'sides' | 'ratio' | 'interval' | 'met' | 'reason'> {
  const results = sides.map((side, at) => sideResult(side, samples[at] ?? [], random));
  const valuesOf = (side: string) =>
    results.find((result) => result.side === side)?.rounds.map(({ value }) => value ?? 0) ?? [];
  const wrong = results.reduce((sum, result) => sum + result.wrong, 0);
  if (wrong > 0) {
    const problems = results.flatMap(({ side, rounds }) =>
      rounds.flatMap((round) => round.problems.map((problem) => `${side}: ${problem}`)),
    );
    const reason = `${wrong} wrong answers: ${problems[0] ?? ''}`;
    return { sides: results, ratio: null, interval: null, met: null, reason };
  }
  const [of, to] = [valuesOf(goal.of), valuesOf(goal.to)];
  if ([...of, ...to].includes(0)) {
    const reason = 'a round has no answer; it takes longer windows';
    return { sides: results, ratio: null, interval: null, met: null, reason };
  }
  const ratio = ratioOf(of, to);
  const met = ratio <= (goal.atMost ?? Infinity) && ratio >= (goal.atLeast ?? 0);
  return { sides: results, ratio, interval: bootstrap([of, to], ratioOf, random), met, reason: null };
}

function sideResult(side: string, rounds: readonly Sample[], random: Random): SideResult {
  const values = rounds.flatMap(({ value }) => value ?? []);
  const [right, wrong] = [
    rounds.reduce((sum, round) => sum + round.right, 0),
    rounds.reduce((sum, round) => sum + round.wrong, 0),
  ];
  const isGood = wrong === 0 && values.length > 0;
  return {
    side,
    rounds,
    right,
    wrong,
    median: isGood ? median(values) : null,
    interval: isGood ? bootstrap([values], (drawn = []) => median(drawn), random) : null,
  };
}
