/** Time, handed in so that tests can move it. The only place of the server that reads a clock. */
export interface Clock {
  /** Wall time: milliseconds since 1970. For what is stored and shown, never for durations. */
  now(): number;
  /** Milliseconds that only grow. For durations and deadlines. */
  monotonic(): number;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
};

/** A wall time as clients read it. */
export function isoTime(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}

/** The first moment of the UTC day and month of a wall time. */
export function startsOf(now: number): { day: number; month: number } {
  const date = new Date(now);
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
  return { day: Date.UTC(year, month, date.getUTCDate()), month: Date.UTC(year, month) };
}
