import assert from 'node:assert/strict';
import { test } from 'node:test';
import { brainWith, promptFor } from './brain.ts';
import { catalogue } from './catalogue.ts';
import { invariantNames } from './checks/all.ts';
import { gistOf, isSame } from './gist.ts';
import { wordsIn, type Told } from './history.ts';
import { readOptions, UsageError } from './options.ts';
import { chosen, reasonsOf, tableOf } from './report.ts';

const word = 'fault-alpha-000000000001';

const outcome = {
  fault: 'P1',
  title: 'a title',
  seed: 5,
  seconds: 8,
  clients: 2,
  notPlayed: null,
  findings: {
    I1: { seen: 3, violations: [], late: [] },
    I3: { seen: 2, violations: ['a turn has no end'], late: [] },
    I4: { seen: 0, violations: [], late: [] },
    I13: { seen: 5, violations: [], late: ['/livez took 7000 ms'] },
  },
  unmet: [],
  expected: 1,
  notes: [],
  operations: 9,
  sound: false,
  held: false,
};

test('the table tells how much was looked at, what broke, and what was not looked at', () => {
  const notPlayed = { ...outcome, fault: 'P8', notPlayed: 'no cgroup v2' };
  const [head = '', row = '', last] = tableOf([outcome, notPlayed]);
  const cell = (name: string) => row.slice(head.indexOf(name)).split(/\s+/u)[0];
  assert.deepEqual([cell('held'), cell('I1'), cell('I3'), cell('I4'), cell('I13')], ['NO', '3', 'BROKEN', '-', 'LATE']);
  assert.equal(last, 'P8  not played  no cgroup v2');
});

test('what did not hold is told with its reason and how to play it again', () => {
  const reasons = reasonsOf(outcome).join('\n');
  assert.match(reasons, /faults\/main\.ts P1 --seed 5 --seconds 8 --clients 2/u);
  assert.match(reasons, /I3: a turn has no end\n[^]*I13: \/livez took 7000 ms/u);
  assert.deepEqual(reasonsOf({ ...outcome, held: true }), []);
});

test('faults are named by their id or their group, each id is there once, and all have something to show', () => {
  assert.deepEqual(
    chosen(catalogue, ['P1']).map(({ id }) => id),
    ['P1'],
  );
  assert.ok(chosen(catalogue, ['S']).every(({ id }) => /^S\d/u.test(id)));
  assert.equal(chosen(catalogue, []).length, catalogue.length);
  assert.equal(new Set(catalogue.map(({ id }) => id)).size, catalogue.length);
  const shown = new Set(catalogue.flatMap(({ shows }) => shows));
  assert.deepEqual(
    invariantNames.filter((name) => !shown.has(name)),
    ['I11'],
  );
  for (const { id, shows, missing } of catalogue) assert.ok(shows.length > 0 || typeof missing?.() === 'string', id);
});

test('a command line that cannot be followed is refused', () => {
  assert.deepEqual(readOptions(['P1', 'S', '--seed', '3'], 5).faults, ['P1', 'S']);
  assert.equal(readOptions([], 5).seed, 5);
  for (const args of [['--seed', 'x'], ['--seconds', '0'], ['--clients', '0'], ['--nothing']])
    assert.throws(() => readOptions(args, 5), UsageError);
});

test('the model names all words that were ever said, and runs a command that leaves the word', async () => {
  const content = [promptFor(word, { do: 'say' }), promptFor('fault-alpha-000000000002', { do: 'run' })];
  const messages = content.map((text) => ({ role: 'user' as const, content: text }));
  const brain = brainWith(() => null);
  const context = { call: 0, attempt: 1, session: null };
  const [step, after] = [
    await brain({ model: 'm', messages }, context),
    await brain({ model: 'm', messages }, { ...context, call: 1 }),
  ];
  assert.match(JSON.stringify(step.tools), /fault-alpha-000000000002 \$\(date/u);
  assert.deepEqual(wordsIn(after.text ?? ''), [word, 'fault-alpha-000000000002']);
});

test('readers of one log have one gist, however its text was divided and withdrawn', () => {
  const plain = { content: '', role: 'assistant' as const, tools_used: [], is_complete: false, error: null };
  const text = (content: string): Told => ({ id: null, event: { ...plain, type: 'text_delta', content } });
  const restart: Told = { id: null, event: { ...plain, type: 'restart' } };
  const queued: Told = { id: null, event: { ...plain, type: 'status', status: 'queued', place: 1 } };
  const whole = gistOf([text('One and two.')]);
  assert.ok(isSame(gistOf([queued, text('One '), text('and two.')]), whole));
  assert.ok(isSame(gistOf([text('One of'), restart, text('One and two.')]), whole));
  assert.ok(!isSame(gistOf([text('One '), text('One and two.')]), whole));
});
