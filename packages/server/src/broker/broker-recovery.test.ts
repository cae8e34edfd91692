import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answerStream, grant, post, requestBody, startBroker, startUpstream, streamOf, until } from './test-support.ts';

const within = { timeout: 20_000 };

/** An answer that costs 0.015 USD: a thousand output tokens. */
const dear = streamOf('Hi', { start: { input_tokens: 0, cache_read_input_tokens: 1 }, end: { output_tokens: 1000 } });
const dearCost = 0.015 + 0.3e-6;

test('a turn that was taken over goes on counting calls and spend', within, async (t) => {
  const upstream = await startUpstream(t, (response) => answerStream(response, dear));
  const { broker } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  const counted = pass.bind(grant({ maxCalls: 3, before: { calls: 2, spentUsd: 1 } }));
  assert.deepEqual([counted.spentUsd(), counted.calls], [1, []]);
  assert.equal((await post(broker, { token: pass.token, body: requestBody({ tools: [{}] }) })).status, 200);
  await until(() => counted.calls.length === 1);
  assert.equal(counted.spentUsd(), 1 + dearCost);
  assert.equal((await post(broker, { token: pass.token, body: requestBody({ tools: [{}] }) })).status, 400);
  assert.equal(counted.callsReached(), true);
  const spent = pass.bind(grant({ budgetUsd: 1, before: { calls: 0, spentUsd: 1 } }));
  assert.equal((await post(broker, { token: pass.token })).status, 400);
  assert.deepEqual([spent.budgetReached(), upstream.requests.length], [true, 1]);
});

test('no call is passed before the turn is ready, and a revoked one never', within, async (t) => {
  const upstream = await startUpstream(t, (response) => answerStream(response));
  const { broker } = await startBroker(t, upstream.url);
  const ready = Promise.withResolvers<void>();
  const pass = broker.issue();
  const turn = pass.bind(grant({ ready: ready.promise }));
  let asked = false;
  void turn.asked.then(() => (asked = true));
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(asked, false);
  const call = post(broker, { token: pass.token });
  await turn.asked;
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(upstream.requests.length, 0);
  ready.resolve();
  assert.equal((await call).status, 200);

  const lost = broker.issue();
  const never = lost.bind(grant({ ready: new Promise(() => {}) }));
  const waiting = post(broker, { token: lost.token });
  await never.asked;
  lost.revoke();
  await assert.rejects(waiting, { code: 'ECONNRESET' });
  await never.settle();
  assert.equal(upstream.requests.length, 1);
});
