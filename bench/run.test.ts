import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readOptions, UsageError } from './options.ts';
import { problemOf, quantileOfAll, type Sample } from './row.ts';
import { rows } from './rows/all.ts';
import { judge } from './run.ts';
import { answerWith, promptWith, tools, wordOf, wordsIn } from './words.ts';

const sides = ['ours', 'theirs'] as const;
const unit = 'ms' as const;
const right = (value: number): Sample => ({ value, right: 5, wrong: 0, problems: [], raw: [value] });
const wrong: Sample = { value: null, right: 4, wrong: 1, problems: ['another answer'], raw: [1] };
const middle = () => 0.5;

test('a row says by how much one side is ahead of the other, and whether that is enough', () => {
  const samples = [
    [right(10), right(20), right(30)],
    [right(100), right(200), right(300)],
  ];
  const lower = { sides, unit, goal: { of: 'ours', to: 'theirs', atMost: 0.1 } };
  const found = judge(lower, samples, middle);
  assert.deepEqual([found.ratio, found.met, found.reason], [0.1, true, null]);
  assert.deepEqual(
    found.sides.map(({ side, median, right }) => [side, median, right]),
    [
      ['ours', 20, 15],
      ['theirs', 200, 15],
    ],
  );
  const higher = { sides, unit, goal: { of: 'theirs', to: 'ours', atLeast: 11 } };
  assert.deepEqual([judge(higher, samples, middle).ratio, judge(higher, samples, middle).met], [10, false]);
});

test('a goal may be a difference, and of another figure than the median of the values', () => {
  const samples = [
    [right(10), { ...right(20), raw: [20, 60] }, right(30)],
    [right(11), right(19), { ...right(29), raw: [29, 31] }],
  ];
  const judged = (share: number, atMost: number) => {
    const figure = quantileOfAll(share, unit);
    return judge(
      { sides, unit, goal: { of: 'ours', to: 'theirs', by: 'difference', figure, atMost } },
      samples,
      middle,
    );
  };
  assert.deepEqual([judged(0.5, 1).ratio, judged(0.5, 1).met], [1, true]);
  assert.deepEqual([judged(1, 28).ratio, judged(1, 28).met], [29, false]);
  assert.deepEqual(
    judged(1, 28).sides.map(({ values, median }) => [values, median]),
    [
      [[10, 60, 30], 60],
      [[11, 19, 31], 31],
    ],
  );
  // Nothing more than the other: that is met, however small the goal.
  const less = { sides, unit, goal: { of: 'theirs', to: 'ours', by: 'difference', atMost: 0 } } as const;
  assert.deepEqual([judge(less, samples, middle).ratio, judge(less, samples, middle).met], [-1, true]);
});

test('one wrong answer leaves a row without a figure, whichever side gave it', () => {
  const goal = { of: 'ours', to: 'theirs', atMost: 1 };
  const samples = [
    [right(1), right(1)],
    [right(9), wrong],
  ];
  for (const order of [samples, samples.toReversed()]) {
    const found = judge({ sides, unit, goal }, order, middle);
    assert.deepEqual([found.ratio, found.met], [null, null]);
    assert.match(found.reason ?? '', /1 wrong answers: .*another answer/u);
  }
});

test('a round without an answer gives no figure, so that nothing is compared with it', () => {
  const none = { ...right(0), right: 0 };
  const goal = { of: 'ours', to: 'theirs', atLeast: 7 };
  const found = judge({ sides, unit, goal }, [[right(10)], [none]], middle);
  assert.deepEqual([found.ratio, found.met], [null, null]);
  assert.match(found.reason ?? '', /no answer/u);
});

test('an answer is right only with these words, these tools and no others, and when it came well', () => {
  const [first, second] = [wordOf('a', 1), wordOf('a', 2)];
  const answer = { firstTextMs: 1, session: 's', problem: null };
  const given = (words: readonly string[], offered: readonly string[]) => answerWith(words, offered);
  assert.equal(problemOf({ ...answer, text: given([first], tools) }, [first]), null);
  assert.match(problemOf({ ...answer, text: given([second], tools) }, [first]) ?? '', /wrong/u);
  assert.match(problemOf({ ...answer, text: given([first], tools) }, [first, second]) ?? '', /wrong/u);
  assert.match(problemOf({ ...answer, text: given([first], ['Read']) }, [first]) ?? '', /wrong/u);
  assert.match(problemOf({ ...answer, text: given([first], tools).slice(1) }, [first]) ?? '', /wrong/u);
  assert.equal(problemOf({ ...answer, text: given([first], tools), problem: 'status 500' }, [first]), 'status 500');
});

test('each prompt has a word of its own, the same for both sides', () => {
  assert.equal(wordOf('run', 'M2', 1, 2), wordOf('run', 'M2', 1, 2));
  const words = ['run', 'other'].flatMap((run) => [1, 2, 12].map((number) => wordOf(run, number)));
  assert.equal(new Set(words).size, words.length);
  assert.deepEqual(wordsIn(words.map((word) => promptWith(word)).join('\n')), words);
});

test('rows are chosen by name in any case, and what is not known is refused', () => {
  const idsOf = (...args: string[]) => readOptions(args, rows).rows.map(({ id }) => id);
  assert.deepEqual(
    idsOf(),
    rows.map(({ id }) => id),
  );
  assert.deepEqual(idsOf('m5', 'M2'), ['M2', 'M5']);
  assert.deepEqual(
    { ...readOptions(['M2', '--rounds', '3', '--seconds', '4'], rows), rows: [] },
    {
      rows: [],
      rounds: 3,
      seconds: 4,
      out: null,
    },
  );
  for (const args of [['M99'], ['--rounds', '0'], ['--seconds', '1.5'], ['--nothing']]) {
    assert.throws(() => readOptions(args, rows), UsageError, args.join(' '));
  }
});
