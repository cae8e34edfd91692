import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answerStream, assertFinal, requestBody, startTurn, streamOf, until, type Answering } from './test-support.ts';

const within = { timeout: 20_000 };

for (const [name, silent] of [
  ['without headers', () => {}],
  ['after headers', (response) => response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()],
] as const satisfies [string, Answering][]) {
  test(`silence ${name} is waited for twice, not more`, within, async (t) => {
    const timeouts = { firstByteMs: 300 };
    const run = await startTurn(t, silent, { timeouts, retry: { attempts: 5, baseDelayMs: 1 } });
    assertFinal(await run.call());
    assert.deepEqual(run.retries, [[1, 'upstream_timeout']]);
    assert.equal(run.turn.failure()?.code, 'upstream_timeout');
    assert.deepEqual(run.broker.health(), { ok: false, code: 'upstream_timeout' });
    await until(() => run.upstream.requests.every(({ left }) => left));
  });
}

test('silence in the middle of an answer cuts it', within, async (t) => {
  const begun = streamOf('Hi').slice(0, 300);
  const run = await startTurn(
    t,
    (response, count) => {
      if (count > 1) return answerStream(response);
      response.writeHead(200, { 'content-type': 'text/event-stream' }).write(begun);
    },
    { timeouts: { silenceMs: 100 } },
  );
  const answer = await run.call();
  assert.equal(answer.whole, false);
  assert.equal(answer.body.toString(), begun);
  assert.equal(run.turn.failure()?.code, 'upstream_timeout');
  assert.deepEqual(run.retries, []);
  await until(() => run.upstream.requests[0]?.left === true);
  assert.equal((await run.call()).whole, true);
  assert.equal(run.turn.failure(), null);
});

test('an answer may take long as long as it is not silent', within, async (t) => {
  const body = streamOf('Hello there');
  const run = await startTurn(
    t,
    (response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      let at = 0;
      const timer = setInterval(() => {
        response.write(body.slice(at, at + 20));
        at += 20;
        if (at < body.length) return;
        clearInterval(timer);
        response.end();
      }, 80);
    },
    { timeouts: { firstByteMs: 1500, silenceMs: 1500 } },
  );
  assert.equal((await run.call()).body.toString(), body);
});

test('a cut in the middle of an answer cuts it', within, async (t) => {
  const begun = streamOf('Hi').slice(0, 300);
  const run = await startTurn(t, (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write(begun, () => response.destroy());
  });
  const answer = await run.call();
  assert.equal(answer.whole, false);
  assert.equal(answer.body.toString(), begun);
  assert.equal(run.turn.failure()?.code, 'upstream_error');
  assert.equal(run.upstream.requests.length, 1);
  await run.turn.settle();
  assert.equal(run.records.length, 1);
});

test('a cut after the last event is no failure', within, async (t) => {
  const run = await startTurn(t, (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write(streamOf('Hi'), () => response.destroy());
  });
  const answer = await run.call();
  assert.ok(answer.whole);
  assert.equal(answer.body.toString(), streamOf('Hi'));
  assert.equal(run.turn.failure(), null);
});

const firstEvent = streamOf('Hi').replace(/\n\n[^]*/, '\n\n');
const errorEvent = (type: string) => `event: error\ndata: {"type":"error","error":{"type":"${type}"}}\n\n`;

for (const [name, body, code] of [
  ['an overload event', firstEvent + errorEvent('overloaded_error'), 'upstream_overloaded'],
  ['another error event', firstEvent + errorEvent('api_error'), 'upstream_error'],
  ['a stream without its last event', streamOf('Hi').replace(/event: message_stop[^]*/, ''), 'upstream_error'],
  ['garbage', '<html>Bad gateway</html>', 'upstream_error'],
  ['an empty answer', '', 'upstream_error'],
] as const) {
  test(`${name} after status 200 comes down unchanged and is ${code}`, within, async (t) => {
    const run = await startTurn(t, (response, count) =>
      count === 1 ? answerStream(response, body) : answerStream(response),
    );
    const answer = await run.call();
    assert.ok(answer.whole);
    assert.equal(answer.body.toString(), body);
    assert.equal(run.turn.failure()?.code, code);
    assert.deepEqual(run.broker.health(), { ok: false, code });
    await run.call();
    assert.equal(run.turn.failure(), null);
  });
}

test('an answer that cannot be metered because it is compressed is not passed', within, async (t) => {
  const run = await startTurn(t, (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'content-encoding': 'gzip' }).end('zzz');
  });
  assertFinal(await run.call());
  assert.equal(run.turn.failure()?.code, 'upstream_error');
  assert.equal(run.upstream.requests.length, 1);
  await run.turn.settle();
  assert.equal(run.records[0]?.usage.input_tokens, Math.ceil(requestBody().length / 4));
});

test('an endless error answer is not read to its end', within, async (t) => {
  const run = await startTurn(t, (response) => {
    response.writeHead(400);
    const more = () => {
      while (!response.destroyed && response.write(Buffer.alloc(65_536, 'x')));
    };
    response.on('drain', more);
    more();
  });
  assertFinal(await run.call());
  assert.equal(run.turn.failure()?.code, 'upstream_rejected');
  assert.ok((run.turn.failure()?.cause.length ?? 0) <= 300);
  await until(() => run.upstream.requests[0]?.left === true);
});
