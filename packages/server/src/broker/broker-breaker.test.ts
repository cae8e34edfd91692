import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { HandClock } from '../testing/limiter.ts';
import type { BrokerOptions } from './broker.ts';
import { answerError, answerStream, assertFinal, grant, post, startBroker } from './test-support.ts';
import { begin, readAnswer, startUpstream, streamOf, until, upstreamAt, type Answering } from './test-support.ts';

const within = { timeout: 20_000 };

/** A turn on upstreams that do what the handlers say, its clock moved by hand. */
async function startTurn(t: TestContext, handlers: readonly Answering[], options: Partial<BrokerOptions> = {}) {
  const clock = new HandClock();
  const started = await Promise.all(
    handlers.map((handler) => startUpstream(t, (response, _request, count) => handler(response, count))),
  );
  const upstreams = started.map(({ url }, index) => upstreamAt(url, { name: 'abcd'.charAt(index) }));
  const { broker, lines } = await startBroker(t, '', { upstreams, clock, ...options });
  const pass = broker.issue();
  const turn = pass.bind(grant());
  const call = () => post(broker, { token: pass.token });
  const count = () => started.reduce((sum, { requests }) => sum + requests.length, 0);
  return { clock, broker, lines, pass, turn, call, count, started };
}

const state = (run: { broker: { upstreams(): readonly { state: string }[] } }) =>
  run.broker.upstreams().map((one) => one.state);

test(
  'an upstream that is overloaded for ever gets a bounded number of calls, and callers are told when to come back',
  within,
  async (t) => {
    const run = await startTurn(t, [(response) => answerError(response, 529)]);
    for (let call = 0; call < 100; call++) assertFinal(await run.call());
    assert.equal(run.count(), 20, 'the breaker opens at the twentieth failure');
    assert.deepEqual([run.turn.failure()?.code, run.turn.failure()?.retryAfter], ['upstream_overloaded', 5]);
    assert.deepEqual([state(run), run.broker.health().ok], [['open'], false]);
    const [{ until: openUntil } = { until: 0 }] = run.broker.upstreams();
    assert.equal(openUntil, run.clock.now() + 5000);
    run.clock.pass(5001);
    for (let call = 0; call < 100; call++) assertFinal(await run.call());
    assert.equal(run.count(), 21, 'one call tries it after the pause');
  },
);

test('an upstream that is well again is found by one call, and all pass from its first byte on', within, async (t) => {
  let well = false;
  const gate = Promise.withResolvers<void>();
  const run = await startTurn(t, [
    (response) => {
      if (!well) return answerError(response, 500);
      response.writeHead(200, { 'content-type': 'text/event-stream' }).write(streamOf('Hi').slice(0, 100));
      void gate.promise.then(() => response.end(streamOf('Hi').slice(100)));
    },
  ]);
  while (state(run)[0] !== 'open') assertFinal(await run.call());
  well = true;
  const before = run.count();
  assertFinal(await run.call());
  assert.equal(run.count(), before);
  run.clock.pass(5001);
  const first = await begin(run.broker, { token: run.pass.token });
  const second = await begin(run.broker, { token: run.pass.token });
  assert.deepEqual([first.statusCode, second.statusCode, state(run)[0]], [200, 200, 'closed']);
  gate.resolve();
  assert.equal((await readAnswer(first)).body.toString(), streamOf('Hi'));
  assert.equal((await readAnswer(second)).body.toString(), streamOf('Hi'));
  assert.deepEqual(run.broker.health(), { ok: true, code: null });
});

test('a process that leaves while its call tries the upstream lets the next one try', within, async (t) => {
  let hangs = false;
  let well = false;
  const run = await startTurn(t, [
    (response) => {
      if (well) answerStream(response);
      else if (!hangs) answerError(response, 500);
    },
  ]);
  while (state(run)[0] !== 'open') assertFinal(await run.call());
  hangs = true;
  run.clock.pass(5001);
  const before = run.count();
  const other = run.broker.issue();
  other.bind(grant());
  const left = begin(run.broker, { token: other.token });
  left.catch(() => {});
  await until(() => run.count() === before + 1);
  assertFinal(await run.call());
  assert.equal(run.count(), before + 1);
  other.revoke();
  await assert.rejects(left);
  well = true;
  await until(() => run.broker.upstreams()[0]?.calls === 0);
  assert.equal((await run.call()).status, 200);
});

test('with a second upstream nobody sees that the first one is down, and it is asked little', within, async (t) => {
  const run = await startTurn(t, [(response) => answerError(response, 500), (response) => answerStream(response)]);
  for (let call = 0; call < 60; call++) assert.equal((await run.call()).status, 200);
  assert.deepEqual(
    run.started.map(({ requests }) => requests.length),
    [20, 60],
  );
  assert.deepEqual(state(run), ['open', 'closed']);
  assert.deepEqual(run.broker.health(), { ok: true, code: null });
});

test('what is wrong with a call or a key does not open the breaker', within, async (t) => {
  const statuses = [400, 401, 403, 404, 413, 429];
  const run = await startTurn(t, [(response, count) => answerError(response, statuses[count % 6] ?? 400)]);
  for (let call = 0; call < 40; call++) assertFinal(await run.call());
  assert.deepEqual(state(run), ['closed']);
  assert.ok(run.count() >= 40);
});

test('answers that are cut, silent or no answer open it too', within, async (t) => {
  const begun = streamOf('Hi').slice(0, 100);
  const run = await startTurn(t, [
    (response, count) => {
      if (count % 2 === 0) return answerStream(response, '<html>Bad gateway</html>');
      response.writeHead(200, { 'content-type': 'text/event-stream' }).write(begun);
      setTimeout(() => response.destroy(), 5);
    },
  ]);
  while (state(run)[0] !== 'open') await run.call();
  assert.ok(run.count() >= 20);
});

test('too many repeats in all are refused, first tries are not', within, async (t) => {
  const run = await startTurn(t, [(response) => answerError(response, 500)], { breaker: { calls: 0 } });
  for (let call = 0; call < 100; call++) assertFinal(await run.call());
  assert.equal(run.count(), 120, 'a fifth of the calls is repeated');
  assert.ok(run.lines.some((line) => line.includes('no more repeats')));
});
