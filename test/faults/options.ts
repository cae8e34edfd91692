import { parseArgs } from 'node:util';

export const usage = `usage: npm run faults -- [options] [fault ...]
  fault          ids of the catalogue, as P1 or S4, or groups, as P; default: all
  --seed N       what is done and when follows from it; default: another one each time, which is printed
  --seconds N    how long the load lasts for each fault; default 15
  --clients N    how many clients each tenant has; default 2
  --out FILE     where the outcomes go as JSON; default: none
  --keep DIR     where the whole history goes of each fault that did not hold; default: none
  --list         names the faults and plays none`;

/** A mistake of whoever called; the message is one line. */
export class UsageError extends Error {}

export interface Options {
  faults: string[];
  seed: number;
  seconds: number;
  clients: number;
  out: string | null;
  keep: string | null;
  list: boolean;
}

/** Reads the command line; `random` is the seed where none is given. Throws `UsageError` when it cannot be followed. */
export function readOptions(args: readonly string[], random: number): Options {
  const { values, positionals } = parsed(args);
  const [seed, seconds] = [Number(values.seed ?? random), Number(values.seconds ?? 15)];
  const clients = Number(values.clients ?? 2);
  if (!Number.isSafeInteger(seed) || seed < 0) throw new UsageError(`--seed ${values.seed} is no whole number`);
  if (!(seconds >= 1 && seconds <= 3600)) throw new UsageError(`--seconds ${values.seconds} is no duration`);
  if (!Number.isSafeInteger(clients) || clients < 1) throw new UsageError(`--clients ${values.clients} is no number`);
  return {
    faults: positionals,
    seed,
    seconds,
    clients,
    out: values.out ?? null,
    keep: values.keep ?? null,
    list: values.list ?? false,
  };
}

function parsed(args: readonly string[]) {
  const text = { type: 'string' } as const;
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { seed: text, seconds: text, clients: text, out: text, keep: text, list: { type: 'boolean' } },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}
