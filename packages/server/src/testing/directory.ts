import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

/** An empty directory of mode 0700, by its real path, that goes with the test. */
export function aDirectory(t: TestContext): string {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'sallyport-test-')));
  t.after(() => rmSync(directory, { recursive: true }));
  return directory;
}
