import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import type { TestContext } from 'node:test';

/** The open files of this process, which a test can use up. */
export interface FileShortage {
  /** Opens files until the system gives no more, then closes so many again. May be repeated. */
  begin(left?: number): void;
  /** Closes them. */
  end(): void;
}

/** Files that a process can open while a test uses them up: far fewer than there may be. */
const most = 512;

/** Bounds the open files of this process for the time of a test. */
export function fileShortage(t: TestContext): FileShortage {
  const bound = (soft: string | number) => execFileSync('prlimit', ['--pid', `${process.pid}`, `--nofile=${soft}:`]);
  const before = /Max open files\s+(\d+)/u.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? '';
  const files: number[] = [];
  const end = () => {
    for (const file of files.splice(0)) closeSync(file);
  };
  bound(most);
  t.after(() => {
    end();
    bound(before);
  });
  return {
    begin(left = 0) {
      assert.throws(
        () => {
          for (;;) files.push(openSync('/dev/null', 'r'));
        },
        { code: 'EMFILE' },
      );
      for (const file of files.splice(files.length - left)) closeSync(file);
    },
    end,
  };
}
