import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { test } from 'node:test';
import { answerStream, assertFinal, begin, grant, post, startBroker } from './test-support.ts';
import { startTurn, startUpstream, streamOf, until, upstreamAt } from './test-support.ts';

const within = { timeout: 60_000 };

for (const [name, baseUrl] of [
  // No name has a part that long, so that it is refused without asking any server of names.
  ['has a name that cannot be resolved', () => `http://${'x'.repeat(64)}.test`],
  ['does not speak TLS', (url: string) => url.replace('http:', 'https:')],
] as const) {
  test(`an upstream that ${name} is tried three times, and another one takes the call`, within, async (t) => {
    const { url, requests } = await startUpstream(t, (response) => answerStream(response));
    const { broker } = await startBroker(t, baseUrl(url));
    const pass = broker.issue();
    const retries: string[] = [];
    const turn = pass.bind(grant({ onRetry: (_attempt, reason) => retries.push(reason) }));
    assertFinal(await post(broker, { token: pass.token }));
    assert.deepEqual([turn.failure()?.code, retries], ['upstream_error', ['upstream_error', 'upstream_error']]);
    broker.setUpstreams([upstreamAt(baseUrl(url)), upstreamAt(url, { name: 'second' })]);
    assert.equal((await post(broker, { token: pass.token })).body.toString(), streamOf('Hi'));
    assert.equal(requests.length, 1);
    await turn.settle();
  });
}

test('when a process leaves an upstream that has sent its headers and no more, nothing is kept', within, async (t) => {
  const run = await startTurn(t, (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
  });
  const left = begin(run.broker, { token: run.pass.token });
  left.catch(() => {});
  await until(() => run.upstream.requests.length === 1);
  run.pass.revoke();
  await assert.rejects(left);
  await until(() => run.upstream.requests[0]?.left === true && run.broker.upstreams()[0]?.calls === 0);
  await run.turn.settle();
  assert.deepEqual(run.retries, []);
});

test('an answer of one byte a write comes down as it is and is metered', within, async (t) => {
  const body = streamOf('Grüße 🎈');
  const byBytes = async (response: ServerResponse) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    for (const byte of Buffer.from(body)) await new Promise((resolve) => response.write(Buffer.of(byte), resolve));
    response.end();
  };
  const run = await startTurn(t, (response) => void byBytes(response));
  assert.equal((await run.call()).body.toString(), body);
  await run.turn.settle();
  assert.deepEqual(
    run.records.map(({ usage }) => usage.output_tokens),
    [20],
  );
});

test('a piece of 10 MB and a hundred thousand small ones come down as they are, and are charged', within, async (t) => {
  const delta = (text: string) =>
    `event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"${text}"}}\n\n`;
  const [head = '', tail = ''] = streamOf('Hi').split(/(?=event: content_block_stop)/);
  const small = Array.from({ length: 100_000 }, (_, index) => delta(`w${index}`)).join('');
  const bodies = [head + delta('x'.repeat(10_000_000)) + tail, head + small + tail];
  const run = await startTurn(t, (response, count) => answerStream(response, bodies[count - 1] ?? ''));
  for (const body of bodies) {
    const answer = await run.call();
    assert.equal(answer.whole, true);
    assert.ok(answer.body.equals(Buffer.from(body)), 'byte for byte');
  }
  await run.turn.settle();
  assert.equal(run.turn.failure(), null);
  assert.equal(run.records.length, 2);
  for (const { usage } of run.records) assert.ok(usage.output_tokens >= 20, JSON.stringify(usage));
});

test(
  'what an upstream says of events and numbers nobody knows changes no byte, and is never charged less',
  within,
  async (t) => {
    const odd = 'event: weather_report\ndata: {"type":"weather_report","usage":{"output_tokens":-1}}\n\n';
    const body = odd + streamOf('Hi', { end: { output_tokens: -7 } }) + odd;
    const run = await startTurn(t, (response) => answerStream(response, body));
    assert.equal((await run.call()).body.toString(), body);
    await run.turn.settle();
    const [record] = run.records;
    assert.ok(record && record.usage.output_tokens > 0 && record.usage.input_tokens > 0, JSON.stringify(record));
  },
);
