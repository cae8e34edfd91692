import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { runResult } from '@sallyport/protocol';
import { answersBench, aPrincipal, type AnswersBench } from './cache-support.ts';
import type { RunningTurn } from './engine.ts';
import { SallyportError } from './errors.ts';
import type { ResponseCache } from './ports.ts';

/** Waits until so many runs were started. */
async function started({ runs }: AnswersBench, count: number): Promise<void> {
  while (runs.length < count) await new Promise((resolve) => setImmediate(resolve));
}

/** What an answer says in the end. */
async function said(answer: Promise<RunningTurn>) {
  const { result, messages, error } = await (await answer).ended;
  return { text: messages.at(-1)?.content, cached: result.cached, error, result };
}

/** What the events of an answer say. */
async function heard(answer: Promise<RunningTurn>) {
  const events = [];
  for await (const { event } of (await answer).events()) events.push(event);
  return events;
}

test('an answer is given again until its time has passed, with all its events', async (t) => {
  const bench = await answersBench(t);
  const first = bench.ask();
  await started(bench, 1);
  const told = heard(first.answer);
  await bench.runs[0]?.end('Nothing.');
  const original = await said(first.answer);
  bench.clock.pass(59_000);
  const again = bench.ask();
  const { result, text } = await said(again.answer);
  assert.equal(text, 'Nothing.');
  assert.deepEqual(result, {
    ...original.result,
    request_id: 'req-2',
    execution_time: 0,
    tokens_used: 0,
    usage: { input_tokens: 0, output_tokens: 0, cache_read_tokens: 0, cache_write_tokens: 0 },
    cost_usd: 0,
    cached: 'hit',
  });
  const events = await heard(again.answer);
  assert.deepEqual(events.slice(0, -1), (await told).slice(0, -1));
  assert.deepEqual([events.at(-1)?.type, events.at(-1)?.is_complete], ['result', true]);
  bench.clock.pass(1000);
  bench.ask();
  await started(bench, 2);
});

test('only what ended well is stored', async (t) => {
  const bench = await answersBench(t);
  const cuts = runResult.shape.stop_reason.exclude(['end_turn']).options;
  for (const [index, stop_reason] of cuts.entries()) {
    const fields = { prompt: stop_reason };
    for (const count of [1, 2]) {
      const { answer } = bench.ask(fields);
      await started(bench, 2 * index + count);
      await bench.runs.at(-1)?.end('Cut', { success: false, stop_reason });
      assert.equal((await said(answer)).cached, false);
    }
  }
  assert.equal(bench.cache.bytes, 0);
});

/** A cache that fails, or holds what nobody stored. */
const broken: Record<string, Partial<ResponseCache>> = {
  'cannot be read': { get: () => Promise.reject(new Error('unreachable')) },
  'cannot be written': { set: () => Promise.reject(new Error('unreachable')) },
  'holds no JSON': { get: async () => '[{"seq":1' },
  'holds something else': { get: async () => '{"length":1}' },
  'holds null': { get: async () => 'null' },
  'holds half an answer': { get: async () => '[{"seq":1,"turn":"t","at":1,"body":{"type":"restart"}}]' },
  'holds nothing': { get: async () => '[]' },
};
for (const [name, parts_] of Object.entries(broken)) {
  test(`a cache that ${name} is as one that has nothing`, async (t) => {
    const working: ResponseCache = { get: async () => null, set: async () => undefined };
    const bench = await answersBench(t, { responseCache: { ...working, ...parts_ } });
    const { answer } = bench.ask();
    await started(bench, 1);
    await bench.runs[0]?.end('All the same.');
    const { text, cached } = await said(answer);
    assert.deepEqual([text, cached, bench.warnings.length], ['All the same.', false, 1]);
  });
}

/** A bench with a stored answer. */
async function withStored(t: TestContext): Promise<AnswersBench> {
  const bench = await answersBench(t);
  const { answer } = bench.ask();
  await started(bench, 1);
  await bench.runs[0]?.end('Stored.');
  await said(answer);
  return bench;
}

test('the answer of a conversation that was deleted is not given', async (t) => {
  const bench = await withStored(t);
  assert.equal((await said(bench.ask().answer)).cached, 'hit');
  await bench.stores.conversations.delete('default', 'conv-1');
  bench.forget('conv-1');
  bench.ask();
  await started(bench, 2);
});

test('the answer of a conversation that another node deleted is given for a second at most', async (t) => {
  const bench = await withStored(t);
  assert.equal((await said(bench.ask().answer)).cached, 'hit');
  await bench.stores.conversations.delete('default', 'conv-1');
  bench.clock.pass(999);
  assert.equal((await said(bench.ask().answer)).cached, 'hit');
  bench.clock.pass(1);
  bench.ask();
  await started(bench, 2);
});

test('a stored answer has its line in the audit log, and is not given while that cannot be written', async (t) => {
  const bench = await withStored(t);
  await said(bench.ask({}, { ...aPrincipal, key: 'other' }).answer);
  await bench.close();
  const lines = (await bench.stores.audit.read('default', 0, 100)).filter(({ action }) => action === 'query.cached');
  assert.deepEqual(
    lines.map(({ actor, tenant, ref, subject, details }) => ({ actor, tenant, ref, subject, details })),
    [
      {
        actor: 'other',
        tenant: 'default',
        ref: { conversation: 'conv-1', turn: 'turn of conv-1' },
        subject: 'conv-1',
        details: { request_id: 'req-2' },
      },
    ],
  );
  const { append } = bench.stores.audit;
  bench.stores.audit.append = () => Promise.reject(new SallyportError('storage_full'));
  // That it fails shows when the first line is written, which stays to be written.
  await said(bench.ask().answer);
  await assert.rejects(bench.close(), { code: 'storage_full' });
  await assert.rejects(bench.ask().answer, { code: 'storage_full' });
  bench.stores.audit.append = append;
  await said(bench.ask().answer);
  assert.equal(bench.runs.length, 1);
  const given = (await bench.stores.audit.read('default', 0, 100)).filter(({ action }) => action === 'query.cached');
  assert.deepEqual(
    given.map(({ details }) => details['request_id']),
    ['req-2', 'req-3', 'req-5'],
  );
});

test('what replaced a run that still goes on is not replaced by it', async (t) => {
  const bench = await answersBench(t);
  const older = bench.ask();
  await started(bench, 1);
  const newer = bench.ask({ cache: 'refresh' });
  await started(bench, 2);
  const joined = bench.ask();
  await bench.runs[1]?.end('New.');
  assert.deepEqual([(await said(newer.answer)).cached, (await said(joined.answer)).cached], [false, 'coalesced']);
  await bench.runs[0]?.end('Old.');
  assert.equal((await said(older.answer)).text, 'Old.');
  assert.equal((await said(bench.ask().answer)).text, 'New.');
  assert.equal(bench.runs.length, 2);
});

test('a run stops when the last has left, also while it is being started, and nobody joins it then', async (t) => {
  const bench = await answersBench(t);
  const start = Promise.withResolvers<void>();
  bench.beforeStart = () => start.promise;
  const callers = [bench.ask(), bench.ask()];
  await new Promise((resolve) => setImmediate(resolve));
  for (const { leave } of callers) leave();
  start.resolve();
  await started(bench, 1);
  await callers[0]?.answer;
  assert.equal(bench.runs[0]?.stopped(), true);
  const next = [bench.ask(), bench.ask()];
  await started(bench, 2);
  next[0]?.leave();
  await next[1]?.answer;
  assert.equal(bench.runs[1]?.stopped(), false);
  // It came to its end all the same: nobody waited for that.
  await bench.runs[0]?.end('Late.');
  await bench.runs[1]?.end('In time.');
  const { text, cached, result } = await said(next[1]!.answer);
  assert.deepEqual([text, cached, result.request_id], ['In time.', 'coalesced', 'req-4']);
  assert.equal((await said(bench.ask().answer)).text, 'In time.');
});

test('a run is stopped also when whoever asked had left before it was started', async (t) => {
  const bench = await answersBench(t);
  for (const cache of ['bypass', 'auto', 'refresh']) {
    const abort = new AbortController();
    abort.abort();
    await bench.ask({ cache }, aPrincipal, abort).answer;
    assert.equal(bench.runs.at(-1)?.stopped(), true, cache);
  }
  assert.equal(bench.runs.length, 3);
});

test('who has left after the end stops nothing and is not counted', async (t) => {
  const bench = await withStored(t);
  const { answer, leave } = bench.ask({ prompt: 'Another one.' });
  await started(bench, 2);
  await bench.runs[1]?.end('Done.');
  await said(answer);
  leave();
  assert.equal(bench.runs[1]?.stopped(), false);
});

test('equal requests of two keys run on their own, as each pays for its own', async (t) => {
  const bench = await answersBench(t);
  bench.ask();
  bench.ask({}, { ...aPrincipal, key: 'other' });
  await started(bench, 2);
});

test('a run that cannot be started is told to all who wait, and the next one tries again', async (t) => {
  const bench = await answersBench(t);
  bench.beforeStart = () => Promise.reject(new SallyportError('budget_exhausted'));
  const callers = Array.from({ length: 5 }, () => bench.ask());
  for (const { answer } of callers) await assert.rejects(answer, { code: 'budget_exhausted' });
  bench.beforeStart = async () => undefined;
  bench.ask();
  await started(bench, 1);
});

test('a run that is refused ends the events of all, whenever they begin to read', async (t) => {
  const bench = await answersBench(t);
  const callers = Array.from({ length: 3 }, () => bench.ask());
  await started(bench, 1);
  const [early, ...late] = await Promise.all(callers.map(({ answer }) => answer));
  const reading = heard(Promise.resolve(early!));
  const refused = new SallyportError('overloaded');
  await Promise.all([assert.rejects(reading, { code: 'overloaded' }), bench.runs[0]?.refuse(refused)]);
  for (const turn of late) {
    assert.equal((await turn.ended).error, refused);
    assert.deepEqual(await heard(Promise.resolve(turn)), []);
  }
  bench.ask();
  await started(bench, 2);
});

test('a run that is refused ends the events of who begins to read at that very moment', async (t) => {
  const bench = await answersBench(t);
  const { answer } = bench.ask();
  await started(bench, 1);
  const turn = await answer;
  const reading = Promise.withResolvers<unknown>();
  bench.atEnd = () => reading.resolve(heard(Promise.resolve(turn)));
  await bench.runs[0]?.refuse(new SallyportError('overloaded'));
  await assert.rejects(reading.promise, { code: 'overloaded' });
});

test('whoever reads a shared run late is told all of it, and its own result', async (t) => {
  const bench = await answersBench(t);
  const callers = Array.from({ length: 3 }, () => bench.ask());
  await started(bench, 1);
  const turns = await Promise.all(callers.map(({ answer }) => answer));
  const early = heard(Promise.resolve(turns[0]!));
  await bench.runs[0]?.end('All of it.');
  await Promise.all(turns.map(({ ended }) => ended));
  const results = [];
  for (const turn of [early, heard(Promise.resolve(turns[1]!)), heard(Promise.resolve(turns[2]!))]) {
    const [text, result, ...more] = await turn;
    assert.deepEqual([text?.type, text?.content, more], ['text_delta', 'All of it.', []]);
    assert.ok(result?.type === 'result');
    results.push([result.request_id, result.cached, result.cost_usd]);
  }
  assert.deepEqual(results, [
    ['req-1', false, 0.25],
    ['req-2', 'coalesced', 0],
    ['req-3', 'coalesced', 0],
  ]);
});
