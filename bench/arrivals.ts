import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Random } from './statistics.ts';

/** Numbers that are the same for the same word, so that both sides of a round meet the same arrivals. */
export function randomOf(word: string): Random {
  let number = 0;
  return () => {
    number += 1;
    return createHash('sha256').update(`${word} ${number}`).digest().readUInt32BE() / 2 ** 32;
  };
}

/** When somebody arrives, in milliseconds from the beginning: a Poisson process of so many in a second, in order. */
export function poissonTimes(perSecond: number, seconds: number, random: Random): number[] {
  const times: number[] = [];
  const next = (since: number) => since - (Math.log(1 - random()) / perSecond) * 1000;
  for (let at = next(0); at < seconds * 1000; at = next(at)) times.push(at);
  return times;
}

/** Calls at each of the times, whether or not earlier ones are answered, and gives the results in their order. */
export async function openLoop<T>(times: readonly number[], arrive: (index: number) => Promise<T>): Promise<T[]> {
  const since = performance.now();
  const arrivals: Promise<T>[] = [];
  for (const [index, at] of times.entries()) {
    const early = since + at - performance.now();
    if (early > 0) await delay(early);
    arrivals.push(arrive(index));
  }
  return await Promise.all(arrivals);
}
