import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LogEvent } from '@sallyport/protocol';
import { LiveLog, type Ending, type Step } from './live.ts';
import { soon } from './log-support.ts';

const event = (seq: number): LogEvent => ({
  seq,
  turn: 't',
  at: 0,
  body: { type: 'tool_end', tool_use_id: 'a', ok: true, summary: '' },
});

/** Subscribes somebody who keeps what it is told: texts, numbers of events, ends. */
function listener(live: LiveLog, first = false) {
  const heard: (string | number)[] = [];
  const told = (step: Step) => heard.push('delta' in step ? step.delta.text : 'event' in step ? step.event.seq : 's');
  const ended = (ending: Ending) => heard.push('over' in ending ? 'over' : 'failed');
  const subscriber = { told, ended };
  live.subscribe(subscriber, first);
  return { heard, leave: () => live.unsubscribe(subscriber) };
}

/** Resolves when the current tick of the event loop is over. */
const tick = () => new Promise<void>((resolve) => process.nextTick(resolve));

test('whoever runs the turn is told the pieces of each tick at its end, and all others together what came meanwhile', async () => {
  const live = new LiveLog();
  const other = listener(live);
  const runner = listener(live, true);
  live.delta('text', 'a');
  live.delta('text', 'b');
  assert.deepEqual(runner.heard, []);
  await tick();
  assert.deepEqual([runner.heard, other.heard], [['ab'], []]);
  live.delta('text', 'c');
  await tick();
  assert.deepEqual([runner.heard, other.heard], [['ab', 'c'], []]);
  await soon();
  assert.deepEqual(other.heard, ['abc']);
});

test('pieces that wait for the end of the tick are told before whatever comes next', async () => {
  const live = new LiveLog();
  const runner = listener(live, true);
  live.delta('text', 'a');
  live.event(event(1));
  live.delta('text', 'b');
  live.status({ status: 'queued', place: 1 });
  live.delta('text', 'c');
  const late = listener(live, true);
  live.delta('text', 'd');
  live.end();
  assert.deepEqual(
    [runner.heard, late.heard],
    [
      ['a', 1, 'b', 's', 'c', 'd', 'over'],
      ['d', 'over'],
    ],
  );
  await tick();
  assert.deepEqual(runner.heard.length, 7, 'nothing is told twice');
});

test('many are told in slices, each in order and whole, also those who come or leave between', async () => {
  const live = new LiveLog();
  const many = Array.from({ length: 350 }, () => listener(live));
  live.delta('text', 'a');
  await tick();
  await soon();
  const reached = () => many.filter(({ heard }) => heard.length > 0).length;
  assert.ok(reached() > 0 && reached() < many.length, 'not all in one go');
  live.delta('text', 'b');
  live.delta('text', 'c');
  await tick();
  many.at(-1)?.leave();
  const late = listener(live);
  for (let rounds = 0; rounds < 12; rounds += 1) await soon();
  assert.deepEqual(new Set(many.slice(0, -1).map(({ heard }) => heard.join())), new Set(['a,bc']));
  assert.deepEqual([many.at(-1)?.heard, late.heard.join('')], [[], 'abc']);
  live.event(event(1));
  for (let rounds = 0; rounds < 12; rounds += 1) await soon();
  assert.ok(many.slice(0, -1).every(({ heard }) => heard.at(-1) === 1));
});

test('what comes while nobody listens is kept for nobody', async () => {
  const live = new LiveLog();
  live.delta('text', 'a');
  const { heard } = listener(live);
  await soon();
  live.delta('text', 'b');
  await tick();
  await soon();
  assert.deepEqual([heard, live.openBlock()?.text], [['b'], 'ab']);
});
