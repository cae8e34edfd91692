import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { test, type TestContext } from 'node:test';
import type { BrokerOptions } from './broker.ts';
import { answerError, answerStream, assertFinal, grant, post, requestBody } from './test-support.ts';
import { startBroker, startUpstream, until, upstreamAt, type Answer, type SeenRequest } from './test-support.ts';

const within = { timeout: 20_000 };

type Handler = (response: ServerResponse, request: SeenRequest) => void;

/** Several tenants on one upstream with few places. Whose call it is stands in its prompt. */
async function startTenants(
  t: TestContext,
  maxConcurrent: number,
  handler: Handler,
  options: Partial<BrokerOptions> = {},
) {
  const upstream = await startUpstream(t, (response, request) => handler(response, request));
  const upstreams = [upstreamAt(upstream.url, { maxConcurrent })];
  const { broker } = await startBroker(t, '', { upstreams, ...options });
  let asked = 0;
  const join = (tenant: string) => {
    const pass = broker.issue();
    const mayCall = async () => {
      asked += 1;
      return 'yes' as const;
    };
    const turn = pass.bind(grant({ ref: { tenant, conversation: tenant, turn: tenant, epoch: 1 }, mayCall }));
    const body = requestBody({ messages: [{ role: 'user', content: `from ${tenant}.` }] });
    const call = (): Promise<Answer> => post(broker, { token: pass.token, body });
    return { pass, turn, call };
  };
  const seen = () => upstream.requests.map(({ body }) => /from (\w+)\./.exec(body)?.[1] ?? '');
  /** Resolves when so many calls have asked their books: each is at the upstream or in the line then. */
  const admitted = (calls: number) => until(() => asked === calls);
  return { broker, join, seen, admitted };
}

/** Answers that the test gives when it likes, the oldest first. */
function byHand() {
  const open: ServerResponse[] = [];
  const handler: Handler = (response) => void open.push(response);
  const answerOne = () => {
    const response = open.shift();
    if (response) answerStream(response);
  };
  return { open, handler, answerOne };
}

test('no more calls are under way than there are places, and tenants that wait take turns', within, async (t) => {
  const { handler, answerOne } = byHand();
  const run = await startTenants(t, 1, handler);
  const tenants = { a: run.join('a'), b: run.join('b'), c: run.join('c') };
  const calls: Promise<Answer>[] = [];
  for (const name of ['a', 'a', 'a', 'a', 'b', 'b', 'c'] as const) {
    calls.push(tenants[name].call());
    await run.admitted(calls.length);
  }
  for (let answered = 1; answered <= calls.length; answered++) {
    await until(() => run.seen().length === answered);
    assert.equal(run.broker.upstreams()[0]?.calls, 1);
    answerOne();
  }
  const answers = await Promise.all(calls);
  assert.ok(answers.every(({ status }) => status === 200));
  assert.deepEqual(run.seen(), ['a', 'a', 'b', 'c', 'a', 'b', 'a']);
});

test('a tenant whose calls all stall leaves places for the others', within, async (t) => {
  const run = await startTenants(t, 10, (response, { body }) => {
    if (!body.includes('from stalled.')) answerStream(response);
  });
  const stalled = run.join('stalled');
  const stalls = Array.from({ length: 20 }, () => stalled.call());
  for (const stall of stalls) stall.catch(() => {});
  await run.admitted(20);
  await until(() => run.seen().length === 8);
  for (let call = 0; call < 10; call++) {
    assert.equal((await run.join(`tenant${call}`).call()).status, 200);
  }
  assert.equal(run.seen().filter((tenant) => tenant === 'stalled').length, 8);
  stalled.pass.revoke();
  await Promise.allSettled(stalls);
  await until(() => run.broker.upstreams()[0]?.calls === 0);
});

test('one whose calls are all limited does not hold up the others while it waits to repeat them', within, async (t) => {
  const retry = { baseDelayMs: 60_000, maxDelayMs: 60_000, budgetFloor: 100 };
  const run = await startTenants(
    t,
    1,
    (response, { body }) => (body.includes('from limited.') ? answerError(response, 429) : answerStream(response)),
    { retry },
  );
  const limited = run.join('limited');
  const calls = Array.from({ length: 10 }, () => limited.call());
  for (const call of calls) call.catch(() => {});
  await until(() => run.seen().length === 10);
  assert.equal((await run.join('other').call()).status, 200);
  assert.equal(run.seen().length, 11);
  limited.pass.revoke();
  await Promise.allSettled(calls);
});

test('a process that leaves while its call waits for a place holds nobody up', within, async (t) => {
  const { open, handler, answerOne } = byHand();
  const run = await startTenants(t, 1, handler);
  const calls = [run.join('a').call()];
  await until(() => open.length === 1);
  const leaving = run.join('b');
  const left = leaving.call();
  left.catch(() => {});
  await run.admitted(2);
  calls.push(run.join('c').call());
  await run.admitted(3);
  leaving.pass.revoke();
  await assert.rejects(left);
  answerOne();
  await until(() => open.length === 1);
  answerOne();
  for (const call of calls) assert.equal((await call).status, 200);
  assert.deepEqual(run.seen(), ['a', 'c']);
});

test('the books are asked again when a call has waited for its place', within, async (t) => {
  const { open, handler, answerOne } = byHand();
  const run = await startTenants(t, 1, handler);
  const first = run.join('a').call();
  await until(() => open.length === 1);
  const verdicts = ['yes', 'no'] as const;
  let asked = 0;
  const pass = run.broker.issue();
  const turn = pass.bind(grant({ mayCall: async () => verdicts[asked++] ?? 'no' }));
  const waiting = post(run.broker, { token: pass.token });
  await until(() => asked === 1);
  answerOne();
  assert.equal((await first).status, 200);
  assertFinal(await waiting);
  assert.deepEqual([turn.budgetReached(), open.length, asked], [true, 0, 2]);
  await until(() => run.broker.upstreams()[0]?.calls === 0);
});
