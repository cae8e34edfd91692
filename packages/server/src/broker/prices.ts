import { readFileSync } from 'node:fs';
import type { Reading } from './meter.ts';

/** USD per million tokens. */
export interface Rates {
  readonly input: number;
  readonly output: number;
  readonly cacheRead: number;
  /** Written for five minutes. What is written for an hour costs 1.6 times as much: 2 times `input` instead of 1.25. */
  readonly cacheWrite: number;
}

/** What a model costs. */
export interface Price extends Rates {
  /** USD per web search that the upstream runs itself; default 0. */
  readonly webSearch?: number;
  /** Rates of a whole call whose input, cached tokens included, is longer than `above` tokens. */
  readonly longPrompt?: Rates & { readonly above: number };
}

export interface Prices {
  /** The price of a model by its id, with or without a date at its end; null when it is not known. */
  of(model: string): Price | null;
}

const hourWriteFactor = 1.6;
const rates = (input: number, output: number, cacheRead: number): Price => ({
  input,
  output,
  cacheRead,
  cacheWrite: input * 1.25,
  webSearch: 0.01,
});

const free: Price = { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 };
const opus = rates(5, 25, 0.5);
const oldOpus = rates(15, 75, 1.5);
const sonnet = rates(3, 15, 0.3);
const fable = rates(10, 50, 1);

/**
 * List prices of Anthropic's API in November 2026 (https://platform.claude.com/docs/en/about-claude/pricing), standard
 * speed, no batches, no regional surcharge. A prices file replaces them one by one.
 */
const builtIn: Readonly<Record<string, Price>> = {
  'sallyport-simulator': free,
  'claude-fable-5-2': rates(8, 40, 0.2),
  'claude-mythos-5-2': rates(8, 40, 0.2),
  'claude-fable-5-1': rates(10, 50, 0.25),
  'claude-mythos-5-1': rates(10, 50, 0.25),
  'claude-fable-5': fable,
  'claude-mythos-5': fable,
  'claude-opus-5-5': rates(4, 20, 0.2),
  'claude-opus-5': opus,
  'claude-opus-4-8': opus,
  'claude-opus-4-7': opus,
  'claude-opus-4-6': opus,
  'claude-opus-4-5': opus,
  'claude-opus-4-1': oldOpus,
  'claude-opus-4-0': oldOpus,
  'claude-opus-4': oldOpus,
  'claude-sonnet-5-5': rates(2, 10, 0.1),
  'claude-sonnet-5': rates(2, 10, 0.2),
  'claude-sonnet-4-6': sonnet,
  'claude-sonnet-4-5': sonnet,
  'claude-sonnet-4-0': sonnet,
  'claude-sonnet-4': sonnet,
  'claude-haiku-5-5': {
    ...rates(0.1, 0.5, 0.01),
    longPrompt: { ...rates(0.5, 2.5, 0.05), above: 100_000 },
  },
  'claude-haiku-4-5': rates(1, 5, 0.1),
};

/**
 * The built-in prices, with those of a JSON file put over them:
 * `{"<model id>": {"input": 3, "output": 15, "cacheRead": 0.3, "cacheWrite": 3.75, "webSearch": 0.01}}`, where `webSearch`
 * and `longPrompt` may be missing. Throws an error of one line that names the file and the place when it cannot be used.
 */
export function loadPrices(path: string | null): Prices {
  const table = new Map(Object.entries(builtIn));
  if (path !== null) for (const [model, price] of readPrices(path)) table.set(model, price);
  return {
    // Only a date may follow: `claude-opus-5-5` must never be sold at the price of `claude-opus-5`.
    of: (model) => table.get(model) ?? table.get(model.replace(/-(\d{8}|latest)$/, '')) ?? null,
  };
}

/** What a call cost at a price, in USD. */
export function costOf(price: Price, reading: Reading): number {
  const {
    input_tokens: input,
    output_tokens: output,
    cache_read_tokens: read,
    cache_write_tokens: write,
  } = reading.usage;
  const long = price.longPrompt;
  const rate: Rates = long !== undefined && input + read + write > long.above ? long : price;
  const hourWrites = Math.min(reading.hourWrites, write);
  const perMillion =
    input * rate.input +
    output * rate.output +
    read * rate.cacheRead +
    (write - hourWrites + hourWrites * hourWriteFactor) * rate.cacheWrite;
  return perMillion / 1e6 + reading.webSearches * (price.webSearch ?? 0);
}

function readPrices(path: string): [string, Price][] {
  const fail = (problem: string): never => {
    throw new Error(`prices file ${path}: ${problem}`);
  };
  let parsed: unknown;
  try {
    parsed = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    return fail(error instanceof SyntaxError ? 'is not valid JSON' : (error as Error).message);
  }
  if (!isObject(parsed)) return fail('must hold one object, with model ids as its keys');
  return Object.entries(parsed).map(([model, value]) => [model, toPrice(value, JSON.stringify(model), fail)]);
}

const rateNames = ['input', 'output', 'cacheRead', 'cacheWrite'];

function toPrice(value: unknown, place: string, fail: (problem: string) => never): Price {
  const check = (object: unknown, at: string, required: string[], optional: string[]): void => {
    if (!isObject(object)) return fail(`${at} must be an object`);
    const unknown = Object.keys(object).find((name) => !required.includes(name) && !optional.includes(name));
    if (unknown !== undefined) fail(`${at} has an unknown field ${JSON.stringify(unknown)}`);
    for (const name of required) if (!isAmount(object[name])) fail(`${at}.${name} must be a number from 0 to 1000000`);
  };
  check(value, place, rateNames, ['webSearch', 'longPrompt']);
  const price = value as Price;
  if (price.webSearch !== undefined && !isAmount(price.webSearch)) {
    fail(`${place}.webSearch must be a number from 0 to 1000000`);
  }
  if (price.longPrompt !== undefined) check(price.longPrompt, `${place}.longPrompt`, [...rateNames, 'above'], []);
  return price;
}

const isAmount = (value: unknown): boolean => typeof value === 'number' && value >= 0 && value <= 1e6;

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
