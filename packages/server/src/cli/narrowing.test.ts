import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NarrowingShape } from '@sallyport/protocol';
import { Command, CommanderError } from 'commander';
import { budgetsIn, duration, isNarrowed, narrowingIn, narrowingText, withNarrowing } from './narrowing.ts';

/** The options of a command line. */
function optionsOf(...args: string[]): Record<string, unknown> {
  const command = withNarrowing(new Command('x')).exitOverride();
  command.configureOutput({ writeErr: () => undefined });
  return command.parse(args, { from: 'user' }).opts();
}

const open = { permission_modes: null, tools: null, models: null, workspace_roots: null, rates: null, budgets: null };
const noBudgets = { run: null, conversation: null, day: null, month: null };
const before: NarrowingShape = {
  permission_modes: ['readOnly'],
  tools: ['Read'],
  models: null,
  workspace_roots: ['/a'],
  rates: { requests_per_minute: 5, burst_size: 1 },
  budgets: { ...noBudgets, day: 5, run: 1 },
};

test('a narrowing is put together from the flags, and nothing is narrowed without one', () => {
  assert.equal(isNarrowed(optionsOf()), false);
  const flags =
    '--mode readOnly --mode strict --tool Read --model m --root /a/../b --per-hour 7 --budget-day 0.5'.split(' ');
  assert.equal(isNarrowed(optionsOf(...flags)), true);
  assert.deepEqual(narrowingIn(optionsOf(...flags), null), {
    permission_modes: ['readOnly', 'strict'],
    tools: ['Read'],
    models: ['m'],
    workspace_roots: ['/b'],
    rates: { requests_per_hour: 7 },
    budgets: { ...noBudgets, day: 0.5 },
  });
  assert.deepEqual(narrowingIn(optionsOf('--tool', 'none', '--root', 'none'), null), {
    ...open,
    tools: [],
    workspace_roots: [],
  });
});

test('what was not given stays as it was, and "any" opens one part', () => {
  assert.deepEqual(narrowingIn(optionsOf('--model', 'm'), before), { ...before, models: ['m'] });
  assert.deepEqual(narrowingIn(optionsOf('--budget-day', 'any', '--per-minute', 'any'), before), {
    ...before,
    rates: { burst_size: 1 },
    budgets: { ...noBudgets, run: 1 },
  });
  const all = '--mode any --tool any --root any --per-minute any --burst any --budget-day any --budget-run any'.split(
    ' ',
  );
  assert.deepEqual(narrowingIn(optionsOf(...all), before), open);
});

test('budgets that are not given are not set', () => {
  assert.equal(budgetsIn(optionsOf(), before.budgets), undefined);
  assert.deepEqual(budgetsIn(optionsOf('--budget-month', '9'), { ...noBudgets, day: 5 }), {
    ...noBudgets,
    day: 5,
    month: 9,
  });
  assert.equal(budgetsIn(optionsOf('--budget-day', 'any'), { ...noBudgets, day: 5 }), null);
});

test('a duration has a unit, or is in seconds', () => {
  assert.deepEqual(['90', '90s', '15m', '12h', '30d', '0'].map(duration), [90, 90, 900, 43_200, 2_592_000, 0]);
  for (const text of ['', 'm', '-1', '1.5h', '1w', '1 h', '12345678901']) assert.throws(() => duration(text));
});

test('what is no number is refused', () => {
  for (const text of ['', 'x', '-1', '1e9', 'NaN', 'Infinity', 'none']) {
    assert.throws(() => optionsOf(`--budget-day=${text}`), CommanderError, text);
  }
});

test('a narrowing is shown on one line', () => {
  assert.equal(narrowingText(null), '-');
  assert.equal(narrowingText(open), '-');
  assert.equal(
    narrowingText({ ...before, tools: [] }),
    'permission_modes=readOnly tools=none workspace_roots=/a requests_per_minute=5 burst_size=1 $1/run $5/day',
  );
});
