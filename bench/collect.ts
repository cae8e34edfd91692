import { renameSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

/**
 * Loaded into a program before its own code, as `--import`, with `--expose-gc`: at SIGUSR2 it collects what is not used
 * any more and writes what is left into its working directory. The program itself knows nothing of it.
 */
process.on('SIGUSR2', () => {
  void (async () => {
    for (let left = 3; left > 0; left -= 1) {
      globalThis.gc?.();
      await delay(50); // what waits for a finalizer is freed by the next one
    }
    const file = `memory-${process.pid}.json`;
    writeFileSync(`${file}.new`, JSON.stringify(process.memoryUsage()));
    renameSync(`${file}.new`, file);
  })();
});
