import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HandClock } from '../testing/limiter.ts';
import { Breaker, type Trial } from './breaker.ts';
import { defaultBreaker } from './options.ts';

function aBreaker(calls = defaultBreaker.calls) {
  const clock = new HandClock();
  const breaker = new Breaker(clock, { ...defaultBreaker, calls });
  const begin = (): Trial => {
    const trial = breaker.begin();
    assert.ok(trial, 'a call passes');
    return trial;
  };
  const end = (good: number, bad: number) => {
    const trials = Array.from({ length: good + bad }, begin);
    for (const [index, trial] of trials.entries()) {
      if (index < good) trial.good();
      else trial.bad();
    }
  };
  return { clock, breaker, begin, end };
}

test('half of twenty calls that failed open it, fewer calls or failures do not', () => {
  for (const [good, bad, state] of [
    [10, 10, 'open'],
    [11, 9, 'closed'],
    [0, 19, 'closed'],
    [0, 20, 'open'],
    [100, 100, 'open'],
  ] as const) {
    const { breaker, end } = aBreaker();
    end(good, bad);
    assert.equal(breaker.state, state, `${good} good, ${bad} bad`);
  }
});

test('what is older than the window is forgotten', () => {
  const { clock, breaker, end } = aBreaker();
  end(0, 19);
  clock.pass(30_001);
  end(0, 19);
  assert.equal(breaker.state, 'closed');
  end(0, 1);
  assert.equal(breaker.state, 'open');
});

test('open, nothing passes until the pause is over; then one call does, and its first byte closes it', () => {
  const { clock, breaker, begin, end } = aBreaker();
  end(0, 20);
  assert.equal(breaker.begin(), null);
  assert.equal(Math.round(breaker.waitMs()), 5000);
  clock.pass(4999);
  assert.equal(breaker.begin(), null);
  clock.pass(2);
  assert.equal(breaker.state, 'half_open');
  const trial = begin();
  assert.equal(breaker.begin(), null, 'a second one waits for what becomes of the first');
  trial.begun();
  assert.equal(breaker.state, 'closed');
  end(19, 0);
  trial.bad();
  assert.equal(breaker.state, 'closed', 'it counts like any other then');
});

test('when the call that tries it fails the pause begins again, and when it leaves another one may try', () => {
  const { clock, breaker, begin, end } = aBreaker();
  end(0, 20);
  clock.pass(5001);
  begin().unknown();
  begin().bad();
  assert.deepEqual([breaker.state, Math.round(breaker.waitMs())], ['open', 5000]);
  clock.pass(5001);
  begin().good();
  assert.equal(breaker.state, 'closed');
  end(0, 18);
  assert.equal(breaker.state, 'closed', 'it began anew');
});

test('what began before it opened says nothing of it afterwards', () => {
  const { clock, breaker, begin, end } = aBreaker();
  const [slow, late] = [begin(), begin()];
  end(0, 20);
  slow.good();
  assert.equal(breaker.state, 'open');
  clock.pass(5001);
  late.bad();
  late.begun();
  assert.equal(breaker.state, 'half_open');
  begin().good();
  assert.equal(breaker.state, 'closed');
});

test('each call counts once', () => {
  const { breaker, begin } = aBreaker();
  const trial = begin();
  for (let time = 0; time < 50; time++) trial.bad();
  assert.equal(breaker.state, 'closed');
});

test('with no calls to open it, it never opens', () => {
  const { breaker, end } = aBreaker(0);
  end(0, 100);
  assert.equal(breaker.state, 'closed');
});
