import assert from 'node:assert/strict';
import http from 'node:http';
import { test, type TestContext } from 'node:test';
import type { BrokerGrant, CallVerdict } from '../engine/ports.ts';
import type { BrokerOptions } from './broker.ts';
import { answerError, answerStream, assertFinal, grant, post, requestBody } from './test-support.ts';
import { startBroker, startUpstream, streamOf, until, type Answering } from './test-support.ts';

const within = { timeout: 20_000 };

/** An answer that costs 0.015 USD: a thousand output tokens. */
const dear = streamOf('Hi', { start: { input_tokens: 0, cache_read_input_tokens: 1 }, end: { output_tokens: 1000 } });
const dearCost = 0.015 + 0.3e-6;

/** A turn whose other budgets say what `mayCall` does. */
async function startTurn(
  t: TestContext,
  mayCall: BrokerGrant['mayCall'],
  { answer, ...rest }: Partial<BrokerOptions & BrokerGrant> & { answer?: Answering } = {},
) {
  const { budgetUsd = null, model = grant().model, ...options } = rest;
  const handler: Answering = answer ?? ((response) => answerStream(response, dear));
  const upstream = await startUpstream(t, (response, _request, count) => handler(response, count));
  const { broker, records } = await startBroker(t, upstream.url, options);
  const pass = broker.issue();
  const turn = pass.bind(grant({ mayCall, budgetUsd, model }));
  const call = (path?: string) =>
    post(broker, { token: pass.token, body: requestBody({ model }), ...(path !== undefined && { path }) });
  return { upstream, broker, records, pass, turn, call };
}

test(
  'once another budget is used up no call reaches the upstream, and the turn is at its budget',
  within,
  async (t) => {
    const asked: number[] = [];
    const { upstream, turn, call } = await startTurn(t, async (spentUsd) => {
      asked.push(spentUsd);
      return asked.length < 3 ? 'alone' : 'no';
    });
    assert.deepEqual([(await call()).status, (await call()).status], [200, 200]);
    assert.equal(turn.budgetReached(), false);
    assertFinal(await call());
    assert.equal(turn.budgetReached(), true);
    assert.equal(turn.failure(), null);
    assert.deepEqual(asked, [0, dearCost, 2 * dearCost]);
    assert.equal(upstream.requests.length, 2);
  },
);

test('when it cannot be found out what is left no call reaches the upstream', within, async (t) => {
  const full = Object.assign(new Error('disk full'), { code: 'ENOSPC' });
  const failures: (() => Promise<CallVerdict>)[] = [
    () => Promise.reject(full),
    () => {
      throw full;
    },
  ];
  for (const fails of failures) {
    const { upstream, turn, call, records } = await startTurn(t, fails);
    assertFinal(await call());
    assert.equal(turn.failure()?.code, 'storage_full');
    assert.equal(turn.budgetReached(), false);
    await turn.settle();
    assert.deepEqual([upstream.requests.length, records.length], [0, 0]);
  }
});

test('calls at once that another budget counts pass one after the other', within, async (t) => {
  const gate = Promise.withResolvers<void>();
  let spent = 0;
  const stored: number[] = [];
  const { upstream, call } = await startTurn(
    t,
    async () => {
      assert.equal(stored.length, upstream.requests.length, 'what was spent before is stored');
      return spent < 1.5 * dearCost ? 'alone' : 'no';
    },
    {
      answer: (response) => void gate.promise.then(() => answerStream(response, dear)),
      record: async ({ costUsd }) => {
        await new Promise((resolve) => setTimeout(resolve, 20));
        stored.push((spent += costUsd ?? 0));
      },
    },
  );
  const calls = Array.from({ length: 5 }, () => call());
  await until(() => upstream.requests.length > 0);
  gate.resolve();
  const statuses = (await Promise.all(calls)).map(({ status }) => status);
  assert.deepEqual(
    statuses.toSorted((a, b) => a - b),
    [200, 200, 400, 400, 400],
  );
  assert.deepEqual([upstream.requests.length, stored.length], [2, 2]);
});

test('a budget that comes while calls run counts for the next', within, async (t) => {
  const gate = Promise.withResolvers<void>();
  let verdict: CallVerdict = 'yes';
  const { upstream, call } = await startTurn(t, async () => verdict, {
    answer: (response) => void gate.promise.then(() => answerStream(response, dear)),
  });
  const free = [call(), call(), call()];
  await until(() => upstream.requests.length === 3);
  verdict = 'alone';
  const counted = call();
  await until(() => upstream.requests.length === 4);
  verdict = 'no';
  const late = call();
  gate.resolve();
  assert.deepEqual(
    (await Promise.all([...free, counted])).map(({ status }) => status),
    [200, 200, 200, 200],
  );
  assertFinal(await late);
  assert.equal(upstream.requests.length, 4);
});

test('a model of unknown price is refused as soon as any budget counts it', within, async (t) => {
  let verdict: CallVerdict = 'yes';
  const { upstream, turn, call } = await startTurn(t, async () => verdict, { model: 'house-7' });
  assert.equal((await call()).status, 200);
  verdict = 'alone';
  assertFinal(await call());
  assert.equal(turn.failure()?.code, 'model_not_allowed');
  assert.equal(upstream.requests.length, 1);
});

test('counting tokens costs nothing and is not asked about', within, async (t) => {
  const { upstream, turn, call } = await startTurn(t, () => assert.fail('asked'));
  assert.equal((await call('/v1/messages/count_tokens')).status, 200);
  assert.equal(upstream.requests.length, 1);
  assert.equal(turn.failure(), null);
});

test('a call is not tried again once a budget is used up', within, async (t) => {
  let asked = 0;
  const { upstream, turn, call } = await startTurn(t, async () => (++asked === 1 ? 'alone' : 'no'), {
    answer: (response) => answerError(response, 529),
  });
  assertFinal(await call());
  assert.equal(upstream.requests.length, 1);
  assert.equal(turn.budgetReached(), true);
});

test('a call is not tried again when it cannot be found out whether it may', within, async (t) => {
  let asked = 0;
  const mayCall = async (): Promise<CallVerdict> => (++asked === 1 ? 'yes' : Promise.reject(new Error('closed')));
  const { upstream, turn, call } = await startTurn(t, mayCall, { answer: (response) => answerError(response, 529) });
  assertFinal(await call());
  assert.equal(upstream.requests.length, 1);
  assert.equal(turn.failure()?.code, 'internal');
});

test('what a try without an answer may have cost counts before the next', within, async (t) => {
  const { upstream, turn, call, records } = await startTurn(t, async () => 'yes', {
    budgetUsd: 1e-6,
    timeouts: { firstByteMs: 100 },
    answer: () => {},
  });
  assertFinal(await call());
  assert.equal(upstream.requests.length, 1);
  assert.equal(turn.budgetReached(), true);
  await turn.settle();
  assert.ok((records[0]?.costUsd ?? 0) > 1e-6);
});

test('a call that leaves while its budget is looked up does not hold up the next', within, async (t) => {
  const looking = Promise.withResolvers<CallVerdict>();
  let asked = 0;
  const { upstream, broker, pass, call } = await startTurn(t, () =>
    ++asked === 1 ? looking.promise : Promise.resolve('alone' as const),
  );
  const leaving = http.request({ socketPath: broker.socketPath, path: '/v1/messages', method: 'POST' });
  leaving.setHeader('x-api-key', pass.token);
  leaving.on('error', () => {});
  leaving.end(requestBody());
  await until(() => asked === 1);
  leaving.destroy();
  assert.equal((await call()).status, 200);
  looking.resolve('alone');
  assert.equal(upstream.requests.length, 1);
});
