#!/usr/bin/env node
import { runProgram } from './cli/program.ts';

/** The first signal asks to stop; the second ends the process at once. */
function stopRequested(): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.once(signal, () => {
        resolve(signal);
        process.once(signal, () => process.exit(1));
      });
    }
  });
}

process.umask(0o077);
process.exitCode = await runProgram(process.argv.slice(2), {
  out: process.stdout,
  error: process.stderr,
  stopRequested,
});
