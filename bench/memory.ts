import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Stage } from './stage.ts';

/** Environment of a program whose memory can be asked for. */
export const measurable = {
  NODE_OPTIONS: `--expose-gc --import=${join(import.meta.dirname, 'collect.ts')}`,
} as const;

const longestMs = 20_000;

export interface Memory {
  /** Bytes that are used: of the heap, and of what hangs from it outside. */
  readonly used: number;
  /** Bytes that the system has given to the process. */
  readonly resident: number;
}

/** The memory of a `measurable` program of a stage, after everything was freed that could be. */
export async function memoryOf(stage: Stage, pid: number): Promise<Memory> {
  const file = join(stage.service.projects, `memory-${pid}.json`);
  rmSync(file, { force: true });
  process.kill(pid, 'SIGUSR2');
  const since = performance.now();
  while (!existsSync(file)) {
    if (performance.now() - since > longestMs) throw new Error(`process ${pid} does not tell its memory`);
    await delay(20);
  }
  const { heapUsed, external, rss } = JSON.parse(readFileSync(file, 'utf8')) as NodeJS.MemoryUsage;
  return { used: heapUsed + external, resident: rss };
}
