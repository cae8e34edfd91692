import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';

/** A program that goes when this process goes, however that ends. */
export interface Tied {
  /** What it has said until now. */
  said(): string;
  /** Resolves when it has ended. */
  readonly ended: Promise<void>;
  /** Resolves once it is ready. Rejects, with what it said, when it ends instead. */
  until(isReady: () => boolean): Promise<void>;
  /** Has it end, and waits for that. */
  end(): Promise<void>;
}

/**
 * Runs a program, and beside it a watcher that waits for the end of standard input, which comes with the end of the process
 * that holds its other end. Then the program gets its signal: again and again, as one that comes before the program
 * can take it is lost. The shell ends with the program, and the watcher with the shell. What is meant for all of a
 * terminal (HUP, INT) must not reach the watcher.
 */
const guard = `
signal=$1; shift; exec 3<&0
"$@" 3<&- </dev/null & program=$!
{ trap '' HUP INT TERM; read -r _ <&3; while kill -"$signal" $program; do sleep 0.2; done; } >/dev/null 2>&1 & watcher=$!
wait $program; code=$?; kill -KILL $watcher 2>/dev/null; exit $code`;

/** How long to wait for the last words of what has ended: something that it started may still hold its output. */
const lastWordsMs = 1000;

/** Starts a program, which gets `signal` when it is to end. One that is missing ends at once, and says so. */
export function startTied(
  command: readonly string[],
  { signal, account = {} }: { signal: 'INT' | 'TERM' | 'KILL'; account?: { uid?: number; gid?: number } },
): Tied {
  const child = spawn('/bin/sh', ['-c', guard, 'sh', signal, ...command], { ...account, stdio: 'pipe' });
  const closed = once(child, 'close');
  const exited = once(child, 'exit');
  const ended = (async () => {
    await exited;
    await Promise.race([closed, delay(lastWordsMs, null, { ref: false })]);
  })();
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
  let over = false;
  void ended.then(() => (over = true));
  return {
    said: () => said,
    ended,
    async until(isReady) {
      while (!isReady()) {
        if (over) throw new Error(`${command[0]} ended: ${said}`);
        await delay(20);
      }
    },
    async end() {
      child.stdin.end();
      await ended;
    },
  };
}
