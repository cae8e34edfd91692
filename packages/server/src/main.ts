#!/usr/bin/env node
import { homedir } from 'node:os';

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

/** The Agent SDK asks for a home directory when it is loaded, and cannot be where the account has none. */
function ensureHome(): void {
  try {
    homedir();
  } catch {
    process.env['HOME'] = '/';
  }
}

process.umask(0o077);
ensureHome();
const { runProgram } = await import('./cli/program.ts');
process.exitCode = await runProgram(process.argv.slice(2), {
  out: process.stdout,
  error: process.stderr,
  stopRequested,
});
