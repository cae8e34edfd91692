import { randomInt } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { thisCommit, thisMachine } from '../bench/machine.ts';
import { astray, measureAtRest, tableOf } from './figures.ts';
import { killAtRandom } from './killer.ts';
import { Load } from './load.ts';
import { readOptions, usage, UsageError, type Options } from './options.ts';
import { Dice } from './random.ts';
import { startService, type Service } from './service.ts';

const concurrency = 4;
const loadShare = 0.7;
/** Longest wait for everything to come back, in milliseconds. */
const returnMs = 120_000;

const print = (line: string) => process.stdout.write(`${line}\n`);

/** Comes with the signal, or after so many milliseconds. */
const after = (milliseconds: number, signal: AbortSignal) =>
  AbortSignal.any([signal, AbortSignal.timeout(milliseconds)]);

/** Warms up, so that what is there then is what has to be there again after the load. Gives queries per second. */
async function warmUp(load: Load, milliseconds: number, signal: AbortSignal): Promise<number> {
  const capacity = await load.capacity(concurrency, milliseconds);
  print(`capacity: ${capacity.toFixed(2)} one-shot queries/s at concurrency ${concurrency}`);
  await load.each();
  await load.mixed(capacity * loadShare, after(milliseconds, signal));
  return capacity;
}

async function soak(service: Service, { minutes, seed, out }: Options, signal: AbortSignal): Promise<boolean> {
  const startedAt = new Date().toISOString();
  const milliseconds = minutes * 60_000;
  const load = new Load(service, seed);
  const capacity = await warmUp(load, Math.min(30_000, milliseconds / 5), signal);
  const before = await measureAtRest(service, null, returnMs);
  const over = after(milliseconds, signal);
  const killing = killAtRandom(service, new Dice(seed, 'kills'), over, print);
  await load.mixed(capacity * loadShare, over);
  const kills = await killing;
  const found = await measureAtRest(service, before, returnMs);
  const { tally } = load;
  if (tally.crashes > kills) tally.wrong.push(`${tally.crashes} turns crashed by ${kills} kills`);
  const isGood = tally.wrong.length === 0 && astray(before, found).length === 0;
  for (const line of tally.wrong) print(`WRONG: ${line}`);
  for (const [name, count] of Object.entries(tally.played)) print(`${String(count).padStart(6)}  ${name}`);
  print(`${kills} kills, ${tally.crashes} turns crashed, ${tally.refusals} refusals, ${tally.heldBack} held back`);
  for (const line of tableOf(before, found)) print(line);
  const head = { format: 1, startedAt, commit: thisCommit(), machine: thisMachine(), minutes, seed, capacity };
  const file = resolve(out ?? join(import.meta.dirname, 'results', `${startedAt.replaceAll(':', '')}.json`));
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify({ ...head, kills, ...tally, before, after: found, isGood }, null, 2)}\n`);
  print(`${isGood ? 'All is as it should be.' : 'SOMETHING IS WRONG.'} Figures: ${relative(process.cwd(), file)}`);
  return isGood;
}

async function main(options: Options): Promise<void> {
  const stopped = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      print('No more load; once more to end at once.');
      stopped.abort();
      process.once(signal, () => process.exit(1));
    });
  }
  print(`soak for ${options.minutes} minutes with --seed ${options.seed}`);
  const service = await startService();
  try {
    if (!(await soak(service, options, stopped.signal))) process.exitCode = 1;
  } finally {
    await service.close();
  }
}

try {
  await main(readOptions(process.argv.slice(2), randomInt(2 ** 31)));
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  process.stderr.write(`soak: ${error.message}\n${usage}\n`);
  process.exitCode = 2;
}
