import { parseArgs } from 'node:util';

export const usage = `usage: npm run soak -- [options]
  --minutes N    how long the load lasts; default 10; parts as 0.5 are fine
  --seed N       what is done and killed follows from it; default: another one each time, which is printed
  --out FILE     where the figures go as JSON; default: soak/results/<time>.json`;

/** A mistake of whoever called; the message is one line. */
export class UsageError extends Error {}

export interface Options {
  readonly minutes: number;
  readonly seed: number;
  /** Null: a file of its own. */
  readonly out: string | null;
}

/** Reads the command line; `random` is the seed where none is given. Throws `UsageError` when it cannot be followed. */
export function readOptions(args: readonly string[], random: number): Options {
  const { minutes, seed, out } = parsed(args);
  const numbers = { minutes: Number(minutes ?? 10), seed: Number(seed ?? random) };
  if (!(numbers.minutes > 0 && numbers.minutes <= 10_000)) throw new UsageError(`--minutes ${minutes} is no duration`);
  if (!Number.isSafeInteger(numbers.seed) || numbers.seed < 0)
    throw new UsageError(`--seed ${seed} is no whole number`);
  return { ...numbers, out: out ?? null };
}

function parsed(args: readonly string[]) {
  const text = { type: 'string' } as const;
  try {
    return parseArgs({ args: [...args], options: { minutes: text, seed: text, out: text } }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}
