/** A range that holds a value with 95 % confidence. */
export interface Interval {
  readonly low: number;
  readonly high: number;
}

/** A source of numbers from 0 to below 1. */
export type Random = () => number;

const resamples = 2000;

/** The middle value, or the mean of the two in the middle. Throws when there is none. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** The value below which a share of the values lies, between two neighbours in proportion. Throws when there is none. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const place = (sorted.length - 1) * share;
  const [below, above] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
  if (below === undefined || above === undefined) throw new Error('there are no values');
  return below + (above - below) * (place - Math.floor(place));
}

/**
 * How far a statistic of some samples may be off: each sample is drawn anew from itself, many times. One sample of one
 * value gives a range without width. Throws when a sample is empty.
 */
export function bootstrap<T>(
  samples: readonly (readonly T[])[],
  statistic: (...drawn: T[][]) => number,
  random: Random,
): Interval {
  const draw = (sample: readonly T[]) => sample.map(() => sample[Math.floor(random() * sample.length)] as T);
  const found = Array.from({ length: resamples }, () => statistic(...samples.map(draw)));
  return { low: quantile(found, 0.025), high: quantile(found, 0.975) };
}
