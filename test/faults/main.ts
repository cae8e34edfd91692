import { randomInt } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { thisCommit, thisMachine } from '../../bench/machine.ts';
import { catalogue } from './catalogue.ts';
import { readOptions, usage, UsageError, type Options } from './options.ts';
import { chosen, reasonsOf, tableOf } from './report.ts';
import { playFault, type Outcome } from './run.ts';

const print = (line: string) => process.stdout.write(`${line}\n`);

async function main({ faults, seed, seconds, clients, out, keep, list }: Options): Promise<void> {
  const wanted = chosen(catalogue, faults);
  if (wanted.length === 0) throw new UsageError(`there is no fault ${faults.join(', ')}`);
  if (list) return wanted.forEach(({ id, title }) => print(`${id.padEnd(4)} ${title}`));
  print(`faults with --seed ${seed} --seconds ${seconds} --clients ${clients}`);
  const outcomes: Omit<Outcome, 'observed'>[] = [];
  for (const fault of wanted) {
    const since = performance.now();
    const { observed, ...outcome } = await playFault(fault, { seed, seconds, clients });
    outcomes.push(outcome);
    if (keep !== null && !outcome.held && observed !== null) {
      mkdirSync(keep, { recursive: true });
      writeFileSync(join(keep, `${fault.id}.json`), `${JSON.stringify({ ...outcome, observed }, null, 1)}\n`);
    }
    const verdict =
      outcome.notPlayed === null ? (outcome.held ? 'held' : 'DID NOT HOLD') : `not played: ${outcome.notPlayed}`;
    print(
      `${fault.id.padEnd(4)} ${verdict.padEnd(12)} ${((performance.now() - since) / 1000).toFixed(0).padStart(4)} s  ${fault.title}`,
    );
    for (const line of reasonsOf(outcome)) print(line);
  }
  print('');
  for (const line of tableOf(outcomes)) print(line);
  const file = { format: 1, commit: thisCommit(), machine: thisMachine(), seed, seconds, outcomes };
  if (out !== null) writeFileSync(out, `${JSON.stringify(file, null, 2)}\n`);
  if (outcomes.some(({ held, notPlayed }) => !held && notPlayed === null)) process.exitCode = 1;
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
try {
  await main(readOptions(process.argv.slice(2), randomInt(2 ** 31)));
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  process.stderr.write(`faults: ${error.message}\n${usage}\n`);
  process.exitCode = 2;
}
