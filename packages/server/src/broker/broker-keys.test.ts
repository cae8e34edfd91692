import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asides, good, startPooled, status, type KeyedAnswering } from './pool-support.ts';
import { answerError, answerStream, assertFinal, grant, streamOf, until } from './test-support.ts';

const within = { timeout: 20_000 };

for (const [code, reason] of [
  [401, 'upstream_refused_credentials'],
  [402, 'upstream_refused_credentials'],
  [403, 'upstream_refused_credentials'],
  [429, 'upstream_rate_limited'],
] as const) {
  test(
    `a key that gets ${code} is put aside, and the call and the next go on with the other one`,
    within,
    async (t) => {
      let bad = '';
      const handler: KeyedAnswering = (response, key) => {
        bad ||= key;
        (key === bad ? status(code) : good)(response, key, 0);
      };
      const run = await startPooled(t, [handler], { keys: 2 });
      assert.equal((await run.call()).body.toString(), streamOf('Hi'));
      assert.equal((await run.call()).status, 200);
      const used = run.used();
      assert.equal(used.length, 3);
      assert.deepEqual(used[1], used[2]);
      assert.notEqual(used[0], used[1]);
      assert.deepEqual(run.retries, [reason]);
      assert.equal(run.turn.failure(), null);
      assert.deepEqual(run.broker.health(), { ok: true, code: null });
      assert.deepEqual(
        asides(run.broker.upstreams()).sort((a, b) => Number(a !== null) - Number(b !== null)),
        [null, reason],
      );
      const secret = [...run.lines, JSON.stringify(run.broker.upstreams())].join('\n');
      assert.equal(/sk-a/.test(secret), false, 'no key is told of');
    },
  );
}

test('a key that is put aside is tried again after its time', within, async (t) => {
  let refusals = 1;
  const handler: KeyedAnswering = (response, key) => (refusals-- > 0 ? status(401) : good)(response, key, 0);
  const run = await startPooled(t, [handler], { keys: 2 });
  await run.call();
  const [first, second] = run.used();
  const [state] = run.broker.upstreams();
  const left = state?.credentials.find((one) => one.state === 'aside')?.until ?? 0;
  assert.equal(left, run.clock.now() + 60_000);
  run.clock.pass(59_000);
  await run.call();
  assert.equal(run.used()[2], second);
  run.clock.pass(1001);
  await run.call();
  assert.equal(run.used()[3], first);
  assert.deepEqual(asides(run.broker.upstreams()), [null, null]);
});

test('a key is put aside for as long as the upstream asks', within, async (t) => {
  let limits = 1;
  const handler: KeyedAnswering = (response, key) =>
    (limits-- > 0 ? status(429, { 'retry-after': '30' }) : good)(response, key, 0);
  const run = await startPooled(t, [handler], { keys: 2 });
  await run.call();
  run.clock.pass(29_000);
  await run.call();
  run.clock.pass(1001);
  await run.call();
  const [first, ...rest] = run.used();
  assert.deepEqual(
    rest.map((key) => key === first),
    [false, false, true],
  );
});

test('the only key is never put aside: every call tries it', within, async (t) => {
  const run = await startPooled(t, [(response, key, count) => (count < 3 ? status(401) : good)(response, key, count)]);
  assertFinal(await run.call());
  assertFinal(await run.call());
  assert.equal(run.turn.failure()?.code, 'upstream_refused_credentials');
  assert.equal((await run.call()).status, 200);
  assert.deepEqual(run.counts(), [3]);
});

test('when every key is put aside calls go to the one that is allowed soonest', within, async (t) => {
  const waits: Record<string, string> = { 'sk-a-1': '50', 'sk-a-2': '20', 'sk-a-3': '90' };
  let limited = true;
  const handler: KeyedAnswering = (response, key) =>
    (limited ? status(429, { 'retry-after': waits[key] ?? '' }) : good)(response, key, 0);
  const run = await startPooled(t, [handler], { keys: 3 });
  assertFinal(await run.call());
  assert.deepEqual(
    run
      .used()
      .map(String)
      .toSorted((one, other) => one.localeCompare(other)),
    Object.keys(waits),
    'each key is tried once',
  );
  assert.equal(run.turn.failure()?.code, 'upstream_rate_limited');
  limited = false;
  assert.equal((await run.call()).status, 200);
  assert.equal(run.used()[3], 'sk-a-2');
});

test('a refused key does not hide that the others are limited', within, async (t) => {
  let first = true;
  const run = await startPooled(
    t,
    [
      (response) => {
        status(first ? 429 : 401, first ? { 'retry-after': '600' } : {})(response, '', 0);
        first = false;
      },
    ],
    { keys: 2 },
  );
  assertFinal(await run.call());
  assert.deepEqual([run.turn.failure()?.code, run.turn.failure()?.retryAfter], ['upstream_rate_limited', 600]);
  assert.deepEqual(run.counts(), [2]);
});

test('a call moves on four times at most', within, async (t) => {
  const run = await startPooled(t, [status(401)], { keys: 20 });
  assertFinal(await run.call());
  assert.deepEqual(run.counts(), [5]);
});

test('conversations spread over the keys, and each stays with its own', within, async (t) => {
  const run = await startPooled(t, [good], { keys: 4 });
  const keyOf = async (conversation: string) => {
    run.pass.bind(grant({ ref: { tenant: 'acme', conversation, turn: 'turn-1', epoch: 1 } }));
    await run.call();
    return run.used().at(-1);
  };
  const first = [];
  for (let number = 0; number < 16; number++) first.push(await keyOf(`conv-${number}`));
  assert.equal(new Set(first).size, 4);
  for (const [number, key] of first.entries()) assert.equal(await keyOf(`conv-${number}`), key);
});

test('new keys are used at once, and a call under way ends with the one it began with', within, async (t) => {
  const gate = Promise.withResolvers<void>();
  const slow: KeyedAnswering = (response, _key, count) => {
    if (count > 1) return answerStream(response);
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write(streamOf('Hi').slice(0, 100));
    void gate.promise.then(() => response.end(streamOf('Hi').slice(100)));
  };
  const run = await startPooled(t, [slow, good]);
  const [a, b] = run.settings;
  assert.ok(a && b);
  const running = run.call();
  await until(() => run.counts()[0] === 1);
  run.broker.setUpstreams([{ ...a, keys: ['sk-new'] }, b]);
  assert.equal((await run.call()).status, 200);
  run.broker.setUpstreams([b]);
  assert.equal((await run.call()).status, 200);
  gate.resolve();
  assert.equal((await running).body.toString(), streamOf('Hi'));
  assert.deepEqual(run.used(), ['sk-a-1', 'sk-new', 'sk-b-1']);
  assert.deepEqual(
    run.broker.upstreams().map(({ name }) => name),
    ['b'],
  );
  assert.throws(() => run.broker.setUpstreams([]), /there is no upstream/);
  assert.throws(() => run.broker.setUpstreams([{ ...b, baseUrl: 'nonsense' }]), /plain http or https address/);
  assert.equal((await run.call()).status, 200);
});

test('a key that stays keeps its state when others change', within, async (t) => {
  const run = await startPooled(t, [(response, key) => (key === 'sk-a-1' ? status(401) : good)(response, key, 0)], {
    keys: 2,
  });
  while (!run.used().includes('sk-a-1')) {
    run.pass.bind(grant({ ref: { tenant: 'acme', conversation: `conv-${run.used().length}`, turn: 't', epoch: 1 } }));
    await run.call();
  }
  const [a] = run.settings;
  assert.ok(a);
  run.broker.setUpstreams([{ ...a, keys: ['sk-a-0', 'sk-a-1'] }]);
  assert.deepEqual(
    run.broker.upstreams()[0]?.credentials.map(({ name, state }) => [name, state]),
    [
      ['key-1', 'ready'],
      ['key-2', 'aside'],
    ],
  );
});

test('a failure that names any key, also one that was taken out, does not bring it out', within, async (t) => {
  const run = await startPooled(t, [(response) => answerError(response, 400, 'no: sk-a-1 sk-a-2 sk-next')], {
    keys: 2,
  });
  const [a] = run.settings;
  assert.ok(a);
  run.broker.setUpstreams([{ ...a, keys: ['sk-next'] }]);
  assertFinal(await run.call());
  assert.match(run.turn.failure()?.cause ?? '', /no: \[key\] \[key\] \[key\]$/);
});
