import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';

/** Where an executable comes from, where the package has another name. */
const PACKAGES: Record<string, string> = { bwrap: 'bubblewrap' };

const told = new Set<string>();

function isOnPath(executable: string): boolean {
  return (process.env['PATH'] ?? '').split(':').some((folder) => {
    try {
      accessSync(join(folder, executable), constants.X_OK);
      return folder !== '';
    } catch {
      return false;
    }
  });
}

/**
 * Says whether a suite must be left out because an executable it needs is not on PATH. Prints one line for each suite
 * that is, so that nothing goes missing unseen.
 * @throws when something is missing and `SALLYPORT_NOTHING_LEFT_OUT=1`, which fails the suite
 */
export function leftOut(suite: string, needs: string[]): boolean {
  const missing = needs.filter((executable) => !isOnPath(executable));
  return leftOutWithout(
    suite,
    missing.map((executable) => PACKAGES[executable] ?? executable),
  );
}

/** As `leftOut`, of a suite that needs what was found to be missing: in words, and nothing when it is all there. */
export function leftOutWithout(suite: string, missing: string[]): boolean {
  if (missing.length === 0) return false;
  const line = `left out: ${suite} needs ${missing.join(', ')}`;
  if (process.env['SALLYPORT_NOTHING_LEFT_OUT'] === '1') throw new Error(line);
  if (!told.has(suite)) process.stdout.write(`${line}\n`);
  told.add(suite);
  return true;
}
