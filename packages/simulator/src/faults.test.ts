import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { ask, content, events, fetchRaw, send, until } from '../test/raw-client.ts';
import { startSimulator } from './index.ts';
import type { Fault, FaultStatus, Simulator, Step } from './index.ts';

let simulator: Simulator;
before(async () => {
  simulator = await startSimulator();
});
beforeEach(() => simulator.reset());
after(() => simulator.close());

const text = 'Nineteen characters and then some more, until the text is done.';

/** Plays one step with a fault and asks once. */
async function play(fault: Fault, stream = true, step: Step = { text }) {
  simulator.play({ steps: [{ ...step, fault }] });
  return fetchRaw(simulator, ask('hello', { stream }));
}

const lastOutcome = () => simulator.requests.at(-1)?.outcome;

test('status faults answer in the error shape, with the error type of their status', async () => {
  const types: Record<FaultStatus, string> = {
    400: 'invalid_request_error',
    401: 'authentication_error',
    402: 'billing_error',
    403: 'permission_error',
    404: 'not_found_error',
    413: 'request_too_large',
    429: 'rate_limit_error',
    500: 'api_error',
    502: 'api_error',
    503: 'api_error',
    504: 'timeout_error',
    529: 'overloaded_error',
  };
  for (const [key, type] of Object.entries(types)) {
    const status = Number(key) as FaultStatus;
    for (const stream of [true, false]) {
      const answer = await play({ kind: 'status', status }, stream);
      const body = JSON.parse(answer.body);
      assert.equal(answer.status, status);
      assert.match(answer.headers['content-type'] ?? '', /^application\/json/);
      assert.equal(answer.headers['retry-after'], undefined);
      assert.equal(body.type, 'error');
      assert.equal(body.error.type, type);
      assert.ok(body.error.message.length > 5);
      assert.equal(body.request_id, answer.headers['request-id']);
      assert.equal(lastOutcome(), 'faulted');
    }
  }
});

test('a status fault carries its own message, type and retry-after', async () => {
  const own = await play({ kind: 'status', status: 429, retry_after: 7, message: 'own words', error_type: 'own_type' });
  assert.equal(own.headers['retry-after'], '7');
  assert.deepEqual(JSON.parse(own.body).error, { type: 'own_type', message: 'own words' });
  const long = await play({ kind: 'status', status: 400, message: 'prompt is too long' });
  assert.match(JSON.parse(long.body).error.message, /^prompt is too long: \d+ tokens > \d+ maximum$/);
  const poor = await play({ kind: 'status', status: 400, message: 'credit balance' });
  assert.match(JSON.parse(poor.body).error.message, /^Your credit balance is too low/);
});

test('hang sends no headers until the client leaves, while others are served', async () => {
  simulator.play({ steps: [{ text, fault: { kind: 'hang' } }] });
  const hanging = send(simulator.url, ask('hello'));
  await until(() => (simulator.requests[0]?.body ?? null) !== null, 'the request');
  simulator.play({ steps: [{ text }] });
  assert.equal((await fetchRaw(simulator, ask('other'))).status, 200);
  assert.equal(hanging.answer.status, 0);
  assert.equal(simulator.requests[0]?.outcome, 'pending');
  hanging.leave();
  await until(() => simulator.requests[0]?.outcome === 'client_left', 'the leaving to be seen');
});

test('stall delivers exactly so many characters and then nothing, until the client leaves', async () => {
  for (const [stream, expected] of [
    [true, text.slice(0, 19)],
    [false, '{"id":"msg_01'],
  ] as const) {
    simulator.reset();
    const wanted = (body: string) => (stream ? content(body) : body);
    simulator.play({ steps: [{ text, fault: { kind: 'stall', after_chars: expected.length } }] });
    const stalled = send(simulator.url, ask('hello', { stream }));
    await until(() => wanted(stalled.answer.body).length >= expected.length, 'the begin');
    simulator.play({ steps: [{ text }] });
    await fetchRaw(simulator, ask('other'));
    assert.equal(wanted(stalled.answer.body), expected);
    assert.equal(simulator.requests[0]?.outcome, 'pending');
    stalled.leave();
    await until(() => simulator.requests[0]?.outcome === 'client_left', 'the leaving to be seen');
  }
});

test('cut breaks the connection after exactly so many characters, inside the open block', async () => {
  for (const afterChars of [0, 5, 19]) {
    const answer = await play({ kind: 'cut', after_chars: afterChars });
    assert.equal(answer.status, 200);
    assert.equal(answer.end, 'broken');
    assert.equal(content(answer.body), text.slice(0, afterChars));
    assert.equal(events(answer.body).at(-1)?.type, afterChars === 0 ? 'ping' : 'content_block_delta');
    assert.equal(lastOutcome(), 'faulted');
  }
  const whole = await play({ kind: 'cut', after_chars: 1_000_000 });
  assert.equal(content(whole.body), text);
  assert.equal(events(whole.body).at(-1)?.type, 'content_block_stop');
  const json = await play({ kind: 'cut', after_chars: 30 }, false);
  assert.equal(json.end, 'broken');
  assert.equal(json.body.length, 30);
});

test('a cut counts characters over all blocks', async () => {
  const step = { thinking: '0123456789', text: 'abcdefghij' };
  const answer = await play({ kind: 'cut', after_chars: 14 }, true, step);
  assert.equal(content(answer.body), '0123456789abcd');
});

test('slow_bytes delivers a good answer in reads of one byte', async () => {
  for (const stream of [true, false]) {
    const answer = await play({ kind: 'slow_bytes' }, stream, { text: 'zwölf 👩‍🚀', chunk: 100 });
    assert.equal(answer.end, 'clean');
    const said = stream ? content(answer.body) : JSON.parse(answer.body).content[0].text;
    assert.equal(said, 'zwölf 👩‍🚀');
    // The kernel may join a few; whole events would be far larger.
    const average = answer.reads.reduce((sum, size) => sum + size, 0) / answer.reads.length;
    assert.ok(average < 4, `${average} bytes per read`);
  }
});

test('garbage is a 200 without a single usable event', async () => {
  for (const stream of [true, false]) {
    const answer = await play({ kind: 'garbage' }, stream);
    assert.equal(answer.status, 200);
    assert.equal(answer.end, 'clean');
    assert.throws(() => JSON.parse(answer.body));
    assert.throws(() => events(answer.body));
    assert.ok(!answer.body.includes('message_stop'));
  }
});

test('error_event ends a begun stream with an error, and becomes a status without a stream', async () => {
  const streamed = await play({ kind: 'error_event', after_chars: 10 });
  assert.equal(streamed.status, 200);
  assert.equal(streamed.end, 'clean');
  assert.equal(content(streamed.body), text.slice(0, 10));
  assert.deepEqual(events(streamed.body).at(-1)?.error, { type: 'overloaded_error', message: 'Overloaded' });
  const own = await play({ kind: 'error_event', error_type: 'api_error', message: 'oh' });
  assert.deepEqual(events(own.body).at(-1)?.error, { type: 'api_error', message: 'oh' });
  const plain = await play({ kind: 'error_event' }, false);
  assert.equal(plain.status, 529);
  assert.equal(JSON.parse(plain.body).error.type, 'overloaded_error');
});

test('refuse breaks the connection before any byte', async () => {
  const answer = await play({ kind: 'refuse' });
  assert.deepEqual([answer.status, answer.body, answer.end], [0, '', 'broken']);
  assert.equal(lastOutcome(), 'faulted');
});

test('no_message_stop delivers all content and a clean end, but no stop', async () => {
  const answer = await play({ kind: 'no_message_stop' });
  assert.equal(answer.end, 'clean');
  assert.equal(content(answer.body), text);
  assert.equal(events(answer.body).at(-1)?.type, 'content_block_stop');
  const plain = await play({ kind: 'no_message_stop' }, false);
  assert.equal(plain.end, 'clean');
  assert.throws(() => JSON.parse(plain.body));
});

test('unknown_events mixes in what no reader knows, around a good answer', async () => {
  const answer = await play({ kind: 'unknown_events' });
  const types = new Set(events(answer.body).map((event) => event.type));
  assert.ok(types.has('weather_report'));
  assert.ok(events(answer.body).some((event) => event.usage?.['input_tokens'] === -5));
  assert.equal(content(answer.body), text);
  const known = events(answer.body).filter((event) => event.type !== 'weather_report');
  assert.equal(known.at(-1)?.type, 'message_stop');
  assert.ok(Number(known.at(-2)?.usage?.['output_tokens']) > 0);
  const plain = JSON.parse((await play({ kind: 'unknown_events' }, false)).body);
  assert.equal(plain.content[0].text, text);
  assert.equal(plain.weather, 'rain');
});

test('a fault hits as many attempts of a step as fault_times says, then the answer is good', async () => {
  simulator.play({ steps: [{ text, fault: { kind: 'status', status: 529 }, fault_times: 2 }] });
  const statuses: number[] = [];
  for (let times = 0; times < 4; times++) statuses.push((await fetchRaw(simulator, ask('again'), 's1')).status);
  assert.deepEqual(statuses, [529, 529, 200, 200]);
  assert.equal((await fetchRaw(simulator, ask('again'), 's2')).status, 529, 'another session counts for itself');
  assert.equal((await fetchRaw(simulator, ask('something else'), 's1')).status, 529, 'so does another step');
  assert.deepEqual(
    simulator.requests.map((request) => request.outcome),
    ['faulted', 'faulted', 'answered', 'answered', 'faulted', 'faulted'],
  );
});
