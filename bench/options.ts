import { parseArgs } from 'node:util';
import type { Row } from './row.ts';

export const usage = `usage: npm run bench -- [rows] [options]
  rows           which figures, as M2 M5; M4 is M4-share too; default: all
  --rounds N     measured rounds of each row; default: as the row says
  --seconds N    length of the windows that are counted in, in seconds; default: as the row says
  --out FILE     where the raw figures go; default: bench/results/<time>.json`;

/** A mistake of whoever called; the message is one line. */
export class UsageError extends Error {}

export interface Options {
  readonly rows: readonly Row[];
  /** Null: as the row says. */
  readonly rounds: number | null;
  /** Null: as the row says. */
  readonly seconds: number | null;
  /** Null: a file of its own. */
  readonly out: string | null;
}

/** Reads the command line. Throws `UsageError` when it cannot be followed. */
export function readOptions(args: readonly string[], known: readonly Row[]): Options {
  const { values, positionals } = parsed(args);
  const isNamed = ({ id }: Row, by: string) => `${id}-`.toUpperCase().startsWith(`${by}-`.toUpperCase());
  const unknown = positionals.filter((name) => !known.some((row) => isNamed(row, name)));
  const ids = known.map(({ id }) => id).join(', ');
  if (unknown.length > 0) throw new UsageError(`there is no row ${unknown.join(', ')}; there are ${ids}`);
  return {
    rows: known.filter((row) => positionals.length === 0 || positionals.some((name) => isNamed(row, name))),
    rounds: count('--rounds', values.rounds),
    seconds: count('--seconds', values.seconds),
    out: values.out ?? null,
  };
}

function parsed(args: readonly string[]) {
  const text = { type: 'string' } as const;
  try {
    const options = { rounds: text, seconds: text, out: text };
    return parseArgs({ args: [...args], allowPositionals: true, options });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

function count(name: string, text: string | undefined): number | null {
  if (text === undefined) return null;
  if (!/^[1-9]\d{0,3}$/u.test(text)) throw new UsageError(`${name} ${text} is no whole number from 1 to 9999`);
  return Number(text);
}
