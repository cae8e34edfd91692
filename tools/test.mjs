// Runs the test suite with node:test and ends with its closing lines. Runs under the pinned Node.js.
//   node tools/run.mjs test [paths or parts of paths] [--test-name-pattern=<regular expression>]
import { globSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { onSignal, signalExitCode } from './lib/child.mjs';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const PATTERNS = [
  'packages/*/{src,test}/**/*.test.ts',
  'test/**/*.test.ts',
  'tools/**/*.test.*',
  'bench/**/*.test.ts',
  'soak/**/*.test.ts',
];
const FILES_AT_ONCE = 2;
/** A single test is given up first, so that a hanging one is named; then its file; then, if that cannot end itself, the run. */
const TEST_SECONDS = 270;
const FILE_SECONDS = 300;
const BLOCKED_FILE_SECONDS = 330;

/** The test files that a filter names: a file, a folder, or any part of a path from the repository's root. */
function select(files, filters) {
  if (filters.length === 0) return files;
  const wanted = filters.map((filter) => [filter, relative(ROOT, resolve(filter))]);
  return files.filter((file) =>
    wanted.some(([part, path]) => file === path || file.startsWith(`${path}/`) || file.includes(part)),
  );
}

function discover() {
  return globSync(PATTERNS, { cwd: ROOT, exclude: ['**/node_modules/**'] }).sort();
}

function closingLines({ counts, duration_ms: duration }) {
  const lines = {
    tests: counts.tests,
    suites: counts.suites,
    pass: counts.passed,
    fail: counts.failed,
    cancelled: counts.cancelled,
    skipped: counts.skipped,
    todo: counts.todo,
    duration_ms: duration,
  };
  return Object.entries(lines)
    .map(([name, count]) => `ℹ ${name} ${count}\n`)
    .join('');
}

/** Ends the whole run when a file neither ends nor can end itself, as in an endless loop. */
function abortWhenBlocked(events, stop) {
  const timers = new Map();
  events.on('test:dequeue', ({ name, file }) => {
    if (name !== file) return;
    const giveUp = () => {
      process.stderr.write(`${file} is blocked; the run is given up\n`);
      stop.abort();
    };
    timers.set(file, setTimeout(giveUp, BLOCKED_FILE_SECONDS * 1000));
  });
  events.on('test:complete', ({ name, file }) => {
    if (name === file) clearTimeout(timers.get(file));
  });
  events.on('close', () => timers.forEach((timer) => clearTimeout(timer)));
}

/** Runs the files and returns the exit code: 0 only when at least one test ran and none failed. */
async function runFiles(files, options) {
  const stop = new AbortController();
  let stoppedBy;
  onSignal((signal) => {
    stoppedBy = signal;
    stop.abort();
  });
  let summary;
  let filesWithoutTests = 0;
  process.env.SALLYPORT_TEST_FILE_SECONDS = String(FILE_SECONDS);
  const events = run({
    ...options,
    files: files.map((file) => resolve(ROOT, file)),
    concurrency: FILES_AT_ONCE,
    timeout: TEST_SECONDS * 1000,
    execArgv: ['--import', new URL('lib/deadline.mjs', import.meta.url).href],
    signal: stop.signal,
  });
  abortWhenBlocked(events, stop);
  events.on('test:summary', (event) => {
    if (event.file === undefined) summary = event;
  });
  events.on('test:pass', ({ name, file }) => {
    if (name === file) filesWithoutTests += 1;
  });
  for await (const text of events.compose(spec)) process.stdout.write(text);
  process.stdout.write('\n');
  if (stoppedBy) return signalExitCode(stoppedBy);
  if (!summary) return 1;
  // With failures node:test prints them after its counts; the counts are repeated so that they always come last.
  if (!summary.success) process.stdout.write(`\n${closingLines(summary)}`);
  if (summary.counts.tests > filesWithoutTests) return summary.success ? 0 : 1;
  process.stderr.write('No test ran.\n');
  return 1;
}

function readArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: { 'test-name-pattern': { type: 'string', multiple: true } },
    });
  } catch (error) {
    process.stderr.write(`${error.message}\n`);
    process.exit(2);
  }
}

const { values, positionals } = readArguments();
const files = select(discover(), positionals);
if (files.length === 0) {
  process.stderr.write(`No test file matches: ${positionals.join(' ')}\n`);
  process.exitCode = 1;
} else {
  process.exitCode = await runFiles(files, { testNamePatterns: values['test-name-pattern'] });
}
