import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asides, good, startPooled, status, type KeyedAnswering } from './pool-support.ts';
import { assertFinal, begin, readAnswer, streamOf } from './test-support.ts';

const within = { timeout: 20_000 };

const failing: Readonly<Record<string, KeyedAnswering>> = {
  '500': status(500),
  '503 with a long wait': status(503, { 'retry-after': '600' }),
  '529': status(529),
  '401': status(401),
  '429': status(429),
  'a reset connection': (response) => void response.socket?.resetAndDestroy(),
  'a cut before the first byte': (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
    setTimeout(() => response.destroy(), 20);
  },
};

for (const [name, answer] of Object.entries(failing)) {
  test(`after ${name} a call goes on at the next upstream, and is charged once`, within, async (t) => {
    const run = await startPooled(t, [answer, good]);
    const { body } = await run.call();
    assert.equal(body.toString(), streamOf('Hi'));
    assert.equal(run.counts()[1], 1);
    assert.equal(run.retries.length, 1);
    await run.turn.settle();
    const paid = run.records.filter(({ usage }) => usage.output_tokens > 0);
    assert.deepEqual(
      paid.map((record) => [record.status, record.usage.input_tokens, record.usage.output_tokens]),
      [[200, 10, 20]],
    );
    assert.equal(run.turn.failure(), null);
  });
}

test('an upstream that does not begin to answer in time is left for the next one', within, async (t) => {
  const run = await startPooled(t, [() => {}, good], { timeouts: { firstByteMs: 2000 } });
  assert.equal((await run.call()).body.toString(), streamOf('Hi'));
  assert.deepEqual(run.retries, ['upstream_timeout']);
  assert.deepEqual(run.counts(), [1, 1]);
  await run.turn.settle();
  assert.equal(run.records.length, 2, 'what the first one may charge for the input is charged too');
});

test('a call waits for two upstreams at most', within, async (t) => {
  const run = await startPooled(t, [() => {}, () => {}, good], { timeouts: { firstByteMs: 200 } });
  assertFinal(await run.call());
  assert.equal(run.turn.failure()?.code, 'upstream_timeout');
  assert.deepEqual(run.counts(), [1, 1, 0]);
});

test('where all upstreams fail a call tries each of them, then repeats as often as one may', within, async (t) => {
  const run = await startPooled(t, [status(500), status(529), status(500)]);
  assertFinal(await run.call());
  assert.equal(
    run.counts().reduce((sum, count) => sum + count),
    5,
  );
  assert.ok(run.counts().every((count) => count >= 1));
});

for (const code of [400, 404, 413, 422]) {
  test(`${code} is the call's own fault, and no other upstream is asked`, within, async (t) => {
    const run = await startPooled(t, [status(code), good], { keys: 2 });
    assertFinal(await run.call());
    assert.deepEqual(run.counts(), [1, 0]);
    assert.deepEqual(asides(run.broker.upstreams()), [null, null, null, null]);
  });
}

test('once a byte of an answer was passed on a call stays where it is', within, async (t) => {
  const begun = streamOf('Hi').slice(0, 300);
  let reset = () => {};
  const cut: KeyedAnswering = (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write(begun);
    reset = () => response.socket?.resetAndDestroy();
  };
  const run = await startPooled(t, [cut, good]);
  const answer = await begin(run.broker, { token: run.pass.token });
  answer.once('data', () => reset());
  assert.equal((await readAnswer(answer)).whole, false);
  await run.turn.settle();
  assert.deepEqual([run.counts(), run.retries], [[1, 0], []]);
  assert.equal(run.turn.failure()?.code, 'upstream_error');
});

test('the books are asked again before a call goes on elsewhere', within, async (t) => {
  let asked = 0;
  const mayCall = async () => ((asked += 1) === 1 ? ('alone' as const) : ('no' as const));
  const run = await startPooled(t, [status(500), good], { granted: { mayCall } });
  assertFinal(await run.call());
  assert.deepEqual([run.counts(), asked], [[1, 0], 2]);
  assert.equal(run.turn.budgetReached(), true);
});

test('a call goes only to upstreams that serve its model', within, async (t) => {
  const run = await startPooled(t, [good, good]);
  const [a, b] = run.settings.map((one) => ({ ...one, models: ['another-model'] }));
  assert.ok(a && b);
  run.broker.setUpstreams([a, { ...b, models: null }]);
  assert.equal((await run.call()).status, 200);
  assert.deepEqual(run.counts(), [0, 1]);
  run.broker.setUpstreams([a, b]);
  assertFinal(await run.call());
  assert.equal(run.turn.failure()?.code, 'upstream_model_not_found');
});
