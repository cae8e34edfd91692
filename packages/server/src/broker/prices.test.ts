import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { emptyReading } from './meter.ts';
import { costOf, loadPrices, type Price } from './prices.ts';

async function fileOf(t: TestContext, content: string): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'spp-'));
  t.after(() => rm(directory, { recursive: true }));
  const path = join(directory, 'prices.json');
  await writeFile(path, content);
  return path;
}

const reading = (input: number, output: number, cacheRead: number, cacheWrite: number) => ({
  ...emptyReading,
  usage: { input_tokens: input, output_tokens: output, cache_read_tokens: cacheRead, cache_write_tokens: cacheWrite },
});

test('a model is found by its id and by its id with a date', () => {
  const prices = loadPrices(null);
  assert.equal(prices.of('claude-sonnet-4-5')?.input, 3);
  assert.equal(prices.of('claude-sonnet-4-5-20250929')?.input, 3);
  assert.equal(prices.of('claude-opus-4-20250514')?.input, 15);
  assert.equal(prices.of('claude-opus-4-5-20251101')?.input, 5);
  assert.equal(prices.of('sallyport-simulator')?.output, 0);
});

test('a later model is never sold at the price of an earlier one whose id begins the same', () => {
  const prices = loadPrices(null);
  assert.equal(prices.of('claude-opus-5')?.input, 5);
  assert.equal(prices.of('claude-opus-5-5')?.input, 4);
  assert.equal(prices.of('claude-opus-5-9'), null);
  assert.equal(prices.of('claude-opus-4-5-turbo'), null);
  assert.equal(prices.of('gpt-4'), null);
  assert.equal(prices.of('constructor'), null);
});

test('each kind of token has its own price', () => {
  const price = loadPrices(null).of('claude-sonnet-4-5') as Price;
  assert.equal(costOf(price, reading(1e6, 0, 0, 0)), 3);
  assert.equal(costOf(price, reading(0, 1e6, 0, 0)), 15);
  assert.equal(costOf(price, reading(0, 0, 1e6, 0)), 0.3);
  assert.equal(costOf(price, reading(0, 0, 0, 1e6)), 3.75);
  assert.equal(costOf(price, { ...reading(0, 0, 0, 1e6), hourWrites: 1e6 }), 6);
  assert.equal(costOf(price, { ...emptyReading, webSearches: 100 }), 1);
});

test('a long prompt is charged at its own rates, the output too', () => {
  const price = loadPrices(null).of('claude-haiku-5-5') as Price;
  assert.equal(costOf(price, reading(50_000, 1e6, 50_000, 0)), 0.005 + 0.5 + 0.0005);
  assert.equal(costOf(price, reading(50_000, 1e6, 50_000, 1)).toFixed(5), (0.025 + 2.5 + 0.0025).toFixed(5));
});

test('a prices file adds and replaces models and leaves the others', async (t) => {
  const own = { input: 1, output: 2, cacheRead: 0.1, cacheWrite: 1.25 };
  const path = await fileOf(t, JSON.stringify({ 'claude-sonnet-4-5': own, 'house-model': { ...own, webSearch: 0.5 } }));
  const prices = loadPrices(path);
  assert.equal(prices.of('claude-sonnet-4-5')?.input, 1);
  assert.equal(prices.of('house-model')?.webSearch, 0.5);
  assert.equal(prices.of('claude-opus-4-5')?.input, 5);
});

for (const [content, problem] of [
  ['{', 'is not valid JSON'],
  ['[]', 'must hold one object, with model ids as its keys'],
  ['{"m": 5}', '"m" must be an object'],
  ['{"m": {"input": 1}}', '"m".output must be a number from 0 to 1000000'],
  ['{"m": {"input": -1}}', '"m".input must be a number from 0 to 1000000'],
  ['{"m": {"inputs": 1}}', '"m" has an unknown field "inputs"'],
  [
    '{"m": {"input": 1, "output": 1, "cacheRead": 1, "cacheWrite": 1, "longPrompt": {}}}',
    '"m".longPrompt.input must be',
  ],
] as const) {
  test(`a prices file with ${content} is refused in one line`, async (t) => {
    const path = await fileOf(t, content);
    assert.throws(
      () => loadPrices(path),
      (error: Error) => error.message.startsWith(`prices file ${path}: ${problem}`) && !error.message.includes('\n'),
    );
  });
}

test('a prices file that is not there is refused in one line', () => {
  assert.throws(() => loadPrices('/nowhere/prices.json'), /^Error: prices file \/nowhere\/prices\.json: ENOENT.*$/);
});
