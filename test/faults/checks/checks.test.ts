import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Observed } from '../history.ts';
import { invariantNames, invariants, type Invariant } from './all.ts';
import { backMs } from './resources.ts';
import { soundRun } from './sample.ts';
import { graceMs } from './tools.ts';

type Doctor = (run: Observed) => unknown;

const [first, second, other] = ['fault-alpha-000000000001', 'fault-alpha-000000000002', 'fault-bravo-000000000003'];

/** What breaks each invariant, in a run that was sound. */
const broken: Record<Invariant, Record<string, Doctor>> = {
  I1: {
    'an acknowledged turn is gone': (run) => run.turns.shift(),
    'the message of an acknowledged turn is not in the log': (run) => run.events.shift(),
    'a turn is stored with another end than its client was told': (run) => (run.turns[0]!.stopReason = 'interrupted'),
    'an acknowledged decision is gone': (run) => (run.approvals[0]!.status = 'pending'),
  },
  I2: {
    'two turns have one epoch': (run) => (run.turns[1]!.epoch = 1),
    'events of two turns mix': (run) => (run.events.at(-1)!.turn = 't1'),
    'two calls of one conversation run at once': (run) => (run.calls[0]!.finishedAt = 2120),
    'a call of one conversation never ended and was answered all the same': (run) => {
      run.calls[0]!.finishedAt = null;
    },
    'a node that was thawed calls the model': (run) => {
      run.frozen.push({ from: 500, to: 1000, what: 'frozen', credential: 'node-1' });
      run.calls[0]!.finishedAt = 2120;
    },
  },
  I3: {
    'a turn has no end': (run) => (run.turns[0]!.endedAt = null),
    'a turn has two results': (run) => run.events.push({ ...run.events.at(-1)!, seq: 10 }),
    'a turn goes on after its end': (run) => run.events.push({ ...run.events[7]!, seq: 10 }),
    'a turn took longer than it may': (run) => (run.turns[0]!.endedAt = 1000 + run.longestTurnMs + 1),
    'a client was told of no end': (run) => run.operations[1]!.events.pop(),
  },
  I4: {
    'a number is missing': (run) => run.events.splice(3, 1),
    'a number is there twice': (run) => (run.events[3]!.seq = 3),
    'cursors fall': (run) => (run.logs[0]!.whole = run.logs[0]!.whole.toReversed()),
    'an event is missing after a cursor': (run) => run.logs[0]!.after['3.0']!.splice(1, 1),
    'an event comes twice after a cursor': (run) => run.logs[0]!.after['3.0']!.push(run.logs[0]!.after['3.0']!.at(-1)!),
    'a cursor is refused': (run) => (run.logs[0]!.after['3.0'] = null),
    'a client missed a text': (run) => run.operations[3]!.events.splice(4, 1),
    'a client heard a text twice': (run) => {
      const { events } = run.operations[1]!;
      events.splice(4, 0, { ...events[3]!, id: '8.5' });
    },
  },
  I5: {
    'a key has two turns': (run) => {
      run.operations.push({ ...run.operations[0]!, word: second });
    },
    'a key gave two answers': (run) => {
      const received = JSON.stringify({ messages: [{ role: 'assistant', content: 'Another one.' }] });
      run.operations.push({ ...run.operations[0]!, received });
    },
    'a key was taken with another body': (run) => run.operations.push({ ...run.operations[0]!, body: 'two' }),
    'a command ran twice': (run) => run.toolRuns.push({ ...run.toolRuns[0]! }),
  },
  I6: {
    'a conversation does not go on in the end': (run) => (run.turns[1]!.stopReason = 'error'),
    'the last turn of a conversation is not there': (run) => run.turns.pop(),
    'an answer does not know of an earlier turn': (run) => (run.events[7]!.payload['text'] = `You said ${second}.`),
  },
  I7: {
    'a process is left': (run) => run.leftovers.push({ pid: 7, command: 'claude', why: 'its server was killed' }),
  },
  I8: {
    'a tenant spent more than its budget and a call for each place': (run) => {
      run.usage.push(...Array.from({ length: 3 }, () => ({ ...run.usage[0]! })));
    },
    'a call is not booked': (run) => run.usage.pop(),
    'a call is booked without its answer': (run) => (run.usage[0]!.outputTokens = 0),
    'a call is booked with nothing': (run) => Object.assign(run.usage[0]!, { status: 0, inputTokens: 0 }),
    'only a call that failed is booked': (run) => (run.usage[0]!.status = 529),
  },
  I9: {
    'a command has no line': (run) => run.audit.shift(),
    'a line came after its command': (run) => (run.audit[0]!.at = 2360),
    'a line does not say who decided': (run) => delete run.audit[0]!.details['decided_by'],
    'a command has no outcome': (run) => run.audit.pop(),
    'the chain is broken': (run) => (run.auditBrokenAt = 2),
  },
  I10: {
    'an answer holds a word of another tenant': (run) => (run.operations[5]!.received += other),
    'an event holds a word of another tenant': (run) =>
      Object.assign(run.operations[1]!.events[0]!.event, { content: other }),
    'a log holds a word of another tenant': (run) => Object.assign(run.logs[0]!.whole[0]!.event, { content: other }),
    'a call of the model holds words of two tenants': (run) => run.calls[0]!.words.push(other),
    'a log line of a tenant holds a word of another one': (run) => (run.lines[0] += other),
  },
  I11: {
    'a process has a secret': (run) => (run.surroundings[0] += 'KEY=sk-secret'),
    'a log line has a secret': (run) => (run.lines[0] += 'sk-secret'),
    'an answer has a secret': (run) => (run.operations[5]!.received += 'sk-secret'),
    'an event has a secret': (run) => Object.assign(run.logs[0]!.whole[0]!.event, { content: 'sk-secret' }),
  },
  I12: { 'a figure has not come back': (run) => (run.figures[0]!.after = 6) },
  I13: {
    'it does not live': (run) => run.probes.push({ at: 1, ms: null, status: null }),
    'it lives badly': (run) => run.probes.push({ at: 1, ms: 5, status: 503 }),
    'a refusal does not say when to come again': (run) => (run.operations[5]!.retryAfter = null),
    'a refusal has no code': (run) => (run.operations[5]!.code = null),
    'something went wrong within': (run) => Object.assign(run.operations[5]!, { status: 500, code: 'internal' }),
  },
  I14: {
    'a command ran that was denied': (run) => (run.approvals[0]!.status = 'denied'),
    'a command ran that nobody was asked about': (run) => run.approvals.pop(),
    'a command ran before it was allowed': (run) => (run.approvals[0]!.decidedAt = 2360),
    'a command was allowed when its time was over': (run) => (run.approvals[0]!.expiresAt = 2100),
    'a command ran with another input': (run) => (run.approvals[0]!.inputHashes = ['another']),
  },
  I15: {
    'a turn did not end after the cancel': (run) => (run.turns[1]!.endedAt = null),
  },
  I16: {
    'a command was let run while nothing could be decided': (run) => {
      run.toolRuns[0]!.at = 10_600;
      run.events[5]!.at = 10_500;
    },
    'a command ran while nothing could be decided, and nobody knows of it': (run) => {
      run.toolRuns.push({ word: 'fault-alpha-000000000009', at: 10_600 });
    },
  },
};

/** What makes a run slow that holds all the same. */
const slow: [Invariant, string, Doctor][] = [
  ['I12', 'figures came back slowly', (run) => (run.figuresMs = backMs + 1)],
  ['I13', 'it lives slowly', (run) => run.probes.push({ at: 1, ms: run.liveMs + 1, status: 200 })],
  ['I13', 'nothing was heard of it for long', (run) => run.probes.push({ at: 1, ms: 10_000, status: null })],
  [
    'I15',
    'a command began after the cancel',
    (run) => (run.toolRuns[0]!.at = run.operations[4]!.endedAt + graceMs + 1),
  ],
  [
    'I15',
    'a turn went on after the cancel',
    (run) => (run.turns[1]!.endedAt = run.operations[4]!.endedAt + graceMs + 1),
  ],
];

test('a sound run holds, and every invariant has something to look at', () => {
  for (const name of invariantNames) {
    const { seen, violations, late } = invariants[name].check(soundRun());
    assert.deepEqual([...violations, ...late], [], name);
    assert.ok(seen > 0, name);
  }
});

for (const name of invariantNames) {
  for (const [what, doctor] of Object.entries(broken[name])) {
    test(`${name} does not hold when ${what}`, () => {
      const run = soundRun();
      doctor(run);
      assert.notDeepEqual(invariants[name].check(run).violations, []);
    });
  }
}

for (const [name, what, doctor] of slow) {
  test(`${name} holds, and is told to be late, when ${what}`, () => {
    const run = soundRun();
    doctor(run);
    const { violations, late } = invariants[name].check(run);
    assert.deepEqual([violations.length, late.length], [0, 1]);
  });
}

test('what is no fault of the service breaks nothing', () => {
  const run = soundRun();
  // A server that was killed had no time to book an answer, and cannot answer.
  run.outages.push({ from: 1100, to: 1400, what: 'killed' });
  run.usage.shift();
  run.probes.push({ at: 1200, ms: null, status: null });
  // A turn that was cut in the middle of its command does not know its outcome.
  run.audit.pop();
  Object.assign(run.events.at(-1)!.payload, { result: { stop_reason: 'interrupted' } });
  assert.deepEqual(invariants.I8.check(run).violations, []);
  assert.deepEqual(invariants.I9.check(run).violations, []);
  assert.deepEqual(invariants.I13.check(run).violations, []);
  // Of each turn a call was under way when the budget was used up.
  const dear = soundRun();
  dear.usage.push(...Array.from({ length: 2 }, () => ({ ...dear.usage[0]! })));
  assert.deepEqual(invariants.I8.check(dear).violations, []);
  // An answer that nobody waited for is booked by its request.
  const left = soundRun();
  Object.assign(left.usage[0]!, { status: 0, outputTokens: 0 });
  assert.deepEqual(invariants.I8.check(left).violations, []);
  // What a client deleted is gone.
  const gone = soundRun();
  gone.turns = [];
  gone.operations.push({ ...gone.operations[5]!, what: 'delete', conversation: 'c' });
  assert.deepEqual(
    invariants.I1.check(gone).violations.filter((each) => each.includes('no turn')),
    [],
  );
  // What was let run before nothing could be decided may run.
  run.toolRuns[0]!.at = 10_600;
  assert.deepEqual(invariants.I16.check(run).violations, []);
  // What a client did not wait for, it did not hear.
  run.operations[1]!.events.splice(2);
  run.logs[0]!.after['6.0'] = structuredClone(run.logs[0]!.whole.slice(6));
  assert.deepEqual(invariants.I4.check(run).violations, []);
  // A text may be divided by a cursor, and end there.
  run.logs[0]!.after['1.6'] = structuredClone(run.logs[0]!.whole.slice(1));
  Object.assign(run.logs[0]!.after['1.6']?.[0]?.event ?? {}, { content: `id ${first}.` });
  run.logs[0]!.after['1.99'] = structuredClone(run.logs[0]!.whole.slice(2));
  assert.deepEqual(invariants.I4.check(run).violations, []);
});
