import assert from 'node:assert/strict';
import http from 'node:http';
import { test } from 'node:test';
import { finalMarker } from './failures.ts';
import { answerError, answerStream, begin, grant, model, post } from './test-support.ts';
import { requestBody, startBroker, startUpstream, streamOf, until } from './test-support.ts';

const within = { timeout: 20_000 };

/** An answer that costs 0.015 USD: a thousand output tokens. */
const dear = streamOf('Hi', { start: { input_tokens: 0, cache_read_input_tokens: 1 }, end: { output_tokens: 1000 } });
const dearCost = 0.015 + 0.3e-6;

test('each call is recorded with what the upstream reported', within, async (t) => {
  const start = {
    input_tokens: 1000,
    output_tokens: 1,
    cache_read_input_tokens: 2000,
    cache_creation_input_tokens: 4000,
  };
  const body = streamOf('Hi', { start, end: { output_tokens: 500 }, model: 'claude-sonnet-4-5-20250929' });
  const upstream = await startUpstream(t, (response) => answerStream(response, body));
  let wall = 1_700_000_000_000;
  let running = 0;
  const clock = { now: () => (wall += 1000), monotonic: () => (running += 50) };
  const { broker, records } = await startBroker(t, upstream.url, { clock });
  const pass = broker.issue();
  const turn = pass.bind(grant({ budgetUsd: 1 }));
  await post(broker, { token: pass.token });
  await turn.settle();
  assert.equal(records.length, 1);
  const [{ id, costUsd, ...rest }] = records as [(typeof records)[number]];
  assert.match(id, /^call-[0-9a-f]{32}$/);
  assert.equal(costUsd?.toFixed(8), ((1000 * 3 + 500 * 15 + 2000 * 0.3 + 4000 * 3.75) / 1e6).toFixed(8));
  assert.deepEqual(rest, {
    ref: grant().ref,
    key: 'web',
    at: 1_700_000_001_000,
    model: 'claude-sonnet-4-5-20250929',
    usage: { input_tokens: 1000, output_tokens: 500, cache_read_tokens: 2000, cache_write_tokens: 4000 },
    status: 200,
    durationMs: 50,
  });
  assert.deepEqual(turn.calls, records);
  assert.equal(turn.spentUsd(), costUsd);
});

test('a model that the upstream names otherwise is charged at the price of the granted one', within, async (t) => {
  const upstream = await startUpstream(t, (response) => answerStream(response, streamOf('Hi', { model: 'house-7' })));
  const { broker, records } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  const turn = pass.bind(grant());
  await post(broker, { token: pass.token });
  await turn.settle();
  assert.equal(records[0]?.model, 'house-7');
  assert.equal(records[0].costUsd, (10 * 3 + 20 * 15) / 1e6);
});

test('without a budget a model of unknown price passes and its cost is unknown', within, async (t) => {
  const upstream = await startUpstream(t, (response) => answerStream(response, streamOf('Hi', { model: 'house-7' })));
  const { broker, records } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  const turn = pass.bind(grant({ model: 'house-7' }));
  assert.equal((await post(broker, { token: pass.token, body: requestBody({ model: 'house-7' }) })).status, 200);
  await turn.settle();
  assert.equal(records[0]?.costUsd, null);
  assert.equal(turn.spentUsd(), 0);
});

test('with a budget a model of unknown price is refused', within, async (t) => {
  const upstream = await startUpstream(t, (response) => answerStream(response));
  const { broker } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  const turn = pass.bind(grant({ model: 'house-7', budgetUsd: 100 }));
  const { status, body } = await post(broker, { token: pass.token, body: requestBody({ model: 'house-7' }) });
  assert.equal(status, 400);
  assert.ok(body.toString().includes(finalMarker));
  assert.equal(upstream.requests.length, 0);
  assert.equal(turn.failure()?.code, 'model_not_allowed');
  assert.equal(turn.budgetReached(), false);
});

test('a call is refused once the budget is spent, and not before', within, async (t) => {
  const upstream = await startUpstream(t, (response) => answerStream(response, dear));
  const { broker } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  const turn = pass.bind(grant({ budgetUsd: 2 * dearCost }));
  const statuses: number[] = [];
  for (let count = 0; count < 4; count++) {
    assert.equal(turn.budgetReached(), count === 3);
    statuses.push((await post(broker, { token: pass.token })).status);
  }
  assert.deepEqual(statuses, [200, 200, 400, 400]);
  assert.equal(upstream.requests.length, 2);
  assert.equal(turn.failure(), null);
});

for (const budgetUsd of [0, -1, Number.NaN]) {
  test(`a budget of ${budgetUsd} passes nothing`, within, async (t) => {
    const upstream = await startUpstream(t, (response) => answerStream(response));
    const { broker } = await startBroker(t, upstream.url);
    const pass = broker.issue();
    const turn = pass.bind(grant({ budgetUsd }));
    assert.equal((await post(broker, { token: pass.token })).status, 400);
    assert.equal(turn.budgetReached(), true);
    assert.equal(upstream.requests.length, 0);
  });
}

test('calls at once under a budget cannot both pass on the same rest of it', within, async (t) => {
  const gate = Promise.withResolvers<void>();
  const upstream = await startUpstream(t, async (response) => {
    await gate.promise;
    answerStream(response, dear);
  });
  const { broker, records } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  const turn = pass.bind(grant({ budgetUsd: 1.5 * dearCost }));
  const calls = Array.from({ length: 5 }, () => post(broker, { token: pass.token }));
  await until(() => upstream.requests.length > 0);
  gate.resolve();
  const statuses = (await Promise.all(calls)).map(({ status }) => status);
  assert.deepEqual(
    statuses.toSorted((a, b) => a - b),
    [200, 200, 400, 400, 400],
  );
  await turn.settle();
  assert.equal(records.length, 2);
});

test('a call that waits behind another and leaves does not hold up the next', within, async (t) => {
  const gate = Promise.withResolvers<void>();
  const upstream = await startUpstream(t, async (response, _request, count) => {
    if (count === 1) await gate.promise;
    answerStream(response, dear);
  });
  const { broker } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  const turn = pass.bind(grant({ budgetUsd: 1 }));
  const first = post(broker, { token: pass.token });
  await until(() => upstream.requests.length === 1);
  const second = http.request({ socketPath: broker.socketPath, path: '/v1/messages', method: 'POST' });
  second.setHeader('x-api-key', pass.token);
  second.on('error', () => {});
  second.end(requestBody());
  await new Promise((resolve) => setTimeout(resolve, 50));
  const third = post(broker, { token: pass.token });
  second.destroy();
  await new Promise((resolve) => setTimeout(resolve, 50));
  // The third must still wait for the first, not only for the one before it.
  assert.equal(upstream.requests.length, 1);
  gate.resolve();
  assert.deepEqual([(await first).status, (await third).status], [200, 200]);
  assert.equal(upstream.requests.length, 2);
  await turn.settle();
});

test('calls at once without a budget do not wait for each other', within, async (t) => {
  const gate = Promise.withResolvers<void>();
  const upstream = await startUpstream(t, async (response) => {
    await gate.promise;
    answerStream(response);
  });
  const { broker } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  pass.bind(grant());
  const calls = [1, 2, 3].map(() => post(broker, { token: pass.token }));
  await until(() => upstream.requests.length === 3);
  gate.resolve();
  await Promise.all(calls);
});

test('usage that cannot be stored fails settle and stops the turn', within, async (t) => {
  const upstream = await startUpstream(t, (response) => answerStream(response));
  const full = Object.assign(new Error('disk full'), { code: 'ENOSPC' });
  const { broker } = await startBroker(t, upstream.url, { record: () => Promise.reject(full) });
  const pass = broker.issue();
  const turn = pass.bind(grant());
  assert.equal((await post(broker, { token: pass.token })).status, 200);
  assert.equal((await post(broker, { token: pass.token })).status, 400);
  assert.equal(upstream.requests.length, 1);
  assert.equal(turn.failure()?.code, 'storage_full');
  await assert.rejects(turn.settle(), full);
  await assert.rejects(turn.settle(), full);
});

test('a store that throws at once is no different', within, async (t) => {
  const upstream = await startUpstream(t, (response) => answerStream(response));
  const record = (): never => {
    throw new Error('closed');
  };
  const { broker } = await startBroker(t, upstream.url, { record });
  const pass = broker.issue();
  const turn = pass.bind(grant());
  await post(broker, { token: pass.token });
  assert.equal((await post(broker, { token: pass.token })).status, 400);
  assert.equal(turn.failure()?.code, 'internal');
  await assert.rejects(turn.settle(), /closed/);
});

test('no call passes while it is unknown whether the former one was stored', within, async (t) => {
  const upstream = await startUpstream(t, (response) => answerStream(response));
  const gate = Promise.withResolvers<void>();
  const { broker } = await startBroker(t, upstream.url, { record: () => gate.promise });
  const pass = broker.issue();
  const turn = pass.bind(grant());
  assert.equal((await post(broker, { token: pass.token })).status, 200);
  const second = post(broker, { token: pass.token });
  let settled = false;
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(upstream.requests.length, 1);
  gate.resolve();
  assert.equal((await second).status, 200);
  const settling = turn.settle().then(() => (settled = true));
  await settling;
  assert.ok(settled);
});

test('settle waits for the call that runs and passes no other', within, async (t) => {
  const gate = Promise.withResolvers<void>();
  const upstream = await startUpstream(t, async (response) => {
    await gate.promise;
    answerStream(response);
  });
  const { broker, records } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  const turn = pass.bind(grant());
  const running = post(broker, { token: pass.token });
  await until(() => upstream.requests.length === 1);
  const settling = turn.settle();
  assert.equal((await post(broker, { token: pass.token })).status, 400);
  assert.equal(records.length, 0);
  gate.resolve();
  await settling;
  assert.equal(records.length, 1);
  assert.equal((await running).status, 200);
});

test('what a call cost is known as soon as its last event is out', within, async (t) => {
  const gate = Promise.withResolvers<void>();
  const upstream = await startUpstream(t, async (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write(dear);
    await gate.promise;
    response.end();
  });
  const { broker } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  const turn = pass.bind(grant());
  const response = await begin(broker, { token: pass.token });
  for await (const chunk of response as AsyncIterable<Buffer>) if (chunk.includes('message_stop')) break;
  assert.equal(turn.spentUsd(), dearCost);
  gate.resolve();
  await turn.settle();
  assert.equal(turn.failure(), null);
});

test('refused calls cost nothing', within, async (t) => {
  const upstream = await startUpstream(t, (response) => answerError(response, 400));
  const { broker, records } = await startBroker(t, upstream.url);
  const pass = broker.issue();
  const turn = pass.bind(grant({ budgetUsd: 1 }));
  await post(broker, { token: pass.token });
  await turn.settle();
  assert.equal(turn.spentUsd(), 0);
  assert.deepEqual(
    records.map((call) => [call.status, call.model, call.costUsd]),
    [[400, model, 0]],
  );
});
