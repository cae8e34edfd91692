import { setTimeout as delay } from 'node:timers/promises';
import { firstOf, type Sample } from './row.ts';

export interface Loop {
  /** How many are asked at once; each asks again as soon as it is answered. */
  readonly concurrency: number;
  readonly seconds: number;
  /** Asks the request with this number, and gives what is wrong with its answer, or null. */
  ask(number: number): Promise<string | null>;
}

/**
 * Right answers in a second. A fifth of the window goes before it and is not counted: so what is under way at its
 * beginning makes up for what is under way at its end, and slow answers lose nothing. Wrong answers count all the time.
 * Raw are the right answers, the seconds of the window, and the seconds of a core that asking took in it.
 */
export async function closedLoop({ concurrency, seconds, ask }: Loop): Promise<Sample> {
  const over = new AbortController();
  const problems: string[] = [];
  let [counting, next, right] = [false, 0, 0];
  const one = async () => {
    while (!over.signal.aborted) {
      next += 1;
      const problem = await ask(next);
      if (problem !== null) problems.push(problem);
      else if (counting) right += 1;
    }
  };
  const all = Promise.all(Array.from({ length: concurrency }, one));
  const wait = (ms: number) => Promise.race([all, delay(ms)]);
  await wait(seconds * 200);
  counting = true;
  const [since, cpuSince] = [performance.now(), process.cpuUsage()];
  await wait(seconds * 1000);
  counting = false;
  const [passed, cpu] = [(performance.now() - since) / 1000, process.cpuUsage(cpuSince)];
  over.abort();
  await all;
  const raw = [right, passed, (cpu.user + cpu.system) / 1e6];
  return { value: right / passed, right, wrong: problems.length, problems: firstOf(problems), raw };
}
