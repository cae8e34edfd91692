import { randomUUID } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { thisCommit, thisMachine } from './machine.ts';
import { readOptions, usage, UsageError, type Options } from './options.ts';
import { headText, rowText, type Report } from './report.ts';
import { rows as known } from './rows/all.ts';
import { runRow, type RowResult } from './run.ts';

async function main(options: Options): Promise<void> {
  const startedAt = new Date().toISOString();
  const command = ['npm run bench --', ...process.argv.slice(2)].join(' ');
  const head = { format: 1, startedAt, command, commit: thisCommit(), machine: thisMachine() } as const;
  process.stdout.write(`${headText(head)}\n`);
  const found: RowResult[] = [];
  const out = resolve(options.out ?? join(import.meta.dirname, 'results', `${startedAt.replaceAll(':', '')}.json`));
  mkdirSync(dirname(out), { recursive: true });
  for (const row of options.rows) {
    const results = await runRow(row, options, randomUUID());
    for (const result of results) process.stdout.write(`${rowText(result)}\n`);
    found.push(...results);
    // After every row, so that one that fails does not take the others with it.
    const report: Report = { ...head, rows: found };
    writeFileSync(out, `${JSON.stringify(report, null, 2)}\n`);
  }
  process.stdout.write(`Raw figures: ${relative(process.cwd(), out)}\n`);
  // A missed goal is a finding; a wrong answer is a failure.
  if (found.some(({ sides }) => sides.some(({ wrong }) => wrong > 0))) process.exitCode = 1;
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
try {
  await main(readOptions(process.argv.slice(2), known));
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  process.stderr.write(`bench: ${error.message}\n${usage}\n`);
  process.exitCode = 2;
}
