const cleanups: (() => void)[] = [];

/** Has something tidied up when the program ends, whichever way: what came last goes first. */
export function atExit(clean: () => void): void {
  cleanups.unshift(clean);
}

process.once('exit', () => {
  for (const clean of cleanups) clean();
});
// Without a listener a signal ends a program at once, and nothing is tidied up.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1));
