import { loadavg } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { Options } from './options.ts';
import { NoFigure, type Figure, type Goal, type Row, type Sample, type Unit } from './row.ts';
import { openStage, type Stage } from './stage.ts';
import { bootstrap, median, type Interval, type Random } from './statistics.ts';
import { wordOf } from './words.ts';

/** What one side of a row gave. */
export interface SideResult {
  readonly side: string;
  readonly rounds: readonly Sample[];
  readonly right: number;
  readonly wrong: number;
  /** What each round came to by itself. Null when an answer was wrong. */
  readonly values: readonly (number | null)[];
  /** What all rounds came to: the median of their values, where the goal names nothing else. Null when an answer was wrong. */
  readonly median: number | null;
  readonly interval: Interval | null;
}

/** What one row gave for one of its goals. */
export interface RowResult {
  readonly id: string;
  readonly what: string;
  readonly how: string;
  /** The name of the figure. */
  readonly name: string;
  readonly unit: Unit;
  readonly goal: Goal;
  readonly jailed: boolean;
  /** Of the machine over the last minute, when the row began. */
  readonly load: number;
  readonly sides: readonly SideResult[];
  /** Of the goal; the figure itself where that names one side, the difference where it names that. Null when there is none to be trusted; `reason` says why. */
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
): Promise<RowResult[]> {
  const { id, what, how } = row;
  const goals: readonly Goal[] = [row.goal].flat();
  const load = loadavg()[0] ?? 0;
  const stage = await openStage(row.stage);
  const about = (goal: Goal) => ({ id, what, how, ...figureOf(row, goal), goal, jailed: stage.jailed, load });
  try {
    const samples = await measureAll(row, stage, rounds ?? row.rounds, seconds ?? row.seconds, name);
    return goals.map((goal) => ({ ...about(goal), ...judge({ ...row, goal }, samples, random) }));
  } catch (error) {
    if (!(error instanceof NoFigure)) throw error;
    const nothing = { sides: [], ratio: null, interval: null, met: null, reason: error.message };
    return goals.map((goal) => ({ ...about(goal), ...nothing }));
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

/** What is said of each side. */
function figureOf({ unit }: Pick<Row, 'unit'>, { figure }: Goal): Figure {
  const of = (rounds: readonly Sample[]) => median(rounds.map(({ value }) => value ?? 0));
  return figure ?? { name: 'median', unit, of };
}

/** How the rounds of the sides that a goal names compare, or what those of the one side come to. */
function compared({ by }: Goal, { of: take }: Figure, of: readonly Sample[], to?: readonly Sample[]): number {
  if (to === undefined) return take(of);
  return by === 'difference' ? take(of) - take(to) : take(of) / take(to);
}

/** What the samples of the sides, in their order, say about a row. A single wrong answer leaves it without a figure. */
export function judge(
  { sides, goal, unit }: Pick<Row, 'sides' | 'unit'> & { readonly goal: Goal },
  samples: readonly (readonly Sample[])[],
  random: Random,
): Pick<RowResult, 'sides' | 'ratio' | 'interval' | 'met' | 'reason'> {
  const figure = figureOf({ unit }, goal);
  const results = sides.map((side, at) => sideResult(side, samples[at] ?? [], figure, random));
  const none = (reason: string) => ({ sides: results, ratio: null, interval: null, met: null, reason });
  const wrong = results.reduce((sum, result) => sum + result.wrong, 0);
  if (wrong > 0) {
    const problems = results.flatMap(({ side, rounds }) =>
      rounds.flatMap((round) => round.problems.map((problem) => `${side}: ${problem}`)),
    );
    return none(`${wrong} wrong answers: ${problems[0] ?? ''}`);
  }
  const named = [goal.of, ...(goal.to === undefined ? [] : [goal.to])];
  const found = named.map((name) => results.find(({ side }) => side === name));
  if (goal.to !== undefined && goal.by !== 'difference' && found.some((result) => result?.values.includes(0))) {
    return none('a round has no answer; it takes longer windows');
  }
  const rounds = found.map((result) => result?.rounds ?? []);
  const compare = (of: readonly Sample[] = [], to?: readonly Sample[]) => compared(goal, figure, of, to);
  const ratio = compare(...rounds);
  const met = ratio <= (goal.atMost ?? Infinity) && ratio >= (goal.atLeast ?? -Infinity);
  return { sides: results, ratio, interval: bootstrap(rounds, compare, random), met, reason: null };
}

function sideResult(side: string, rounds: readonly Sample[], { of }: Figure, random: Random): SideResult {
  const [right, wrong] = [
    rounds.reduce((sum, round) => sum + round.right, 0),
    rounds.reduce((sum, round) => sum + round.wrong, 0),
  ];
  const isGood = wrong === 0 && rounds.length > 0;
  return {
    side,
    rounds,
    right,
    wrong,
    values: rounds.map((round) => (round.wrong === 0 ? of([round]) : null)),
    median: isGood ? of(rounds) : null,
    interval: isGood ? bootstrap([rounds], (drawn = []) => of(drawn), random) : null,
  };
}
