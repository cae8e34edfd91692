import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createMeter, type Reading } from './meter.ts';
import { model, streamOf } from './test-support.ts';

const requestBytes = 4000; // Estimated at 1000 tokens.

function stream(body: string): Reading {
  const meter = createMeter('text/event-stream', requestBytes);
  meter.push(Buffer.from(body));
  return meter.end();
}

function message(body: unknown): Reading {
  const meter = createMeter('application/json', requestBytes);
  meter.push(Buffer.from(JSON.stringify(body)));
  return meter.end();
}

const tokens = ({ usage }: Reading): number[] => [
  usage.input_tokens,
  usage.output_tokens,
  usage.cache_read_tokens,
  usage.cache_write_tokens,
];

test('later numbers of a stream replace earlier ones', () => {
  const start = { input_tokens: 10, output_tokens: 1, cache_read_input_tokens: 5, cache_creation_input_tokens: 7 };
  const reading = stream(streamOf('Hi', { start, end: { output_tokens: 20, input_tokens: 12 }, model: 'named' }));
  assert.deepEqual(tokens(reading), [12, 20, 5, 7]);
  assert.equal(reading.model, 'named');
  assert.equal(reading.failure, null);
});

test('cache lifetimes and web searches are read', () => {
  const start = { input_tokens: 1, cache_creation_input_tokens: 9, cache_creation: { ephemeral_1h_input_tokens: 4 } };
  const end = { output_tokens: 2, server_tool_use: { web_search_requests: 3 } };
  const reading = stream(streamOf('Hi', { start, end }));
  assert.equal(reading.hourWrites, 4);
  assert.equal(reading.webSearches, 3);
});

test('a message that is not streamed is metered', () => {
  const usage = { input_tokens: 10, output_tokens: 20, cache_read_input_tokens: 30, cache_creation_input_tokens: null };
  const reading = message({ type: 'message', model, usage });
  assert.deepEqual(tokens(reading), [10, 20, 30, 0]);
  assert.equal(reading.failure, null);
});

const text = 'x'.repeat(400); // Estimated at 100 tokens.

for (const [name, start, end, expected] of [
  ['missing', {}, {}, [1000, 100, 0, 0]],
  ['zero', { input_tokens: 0 }, { output_tokens: 0 }, [1000, 100, 0, 0]],
  ['negative', { input_tokens: -5 }, { output_tokens: -1 }, [1000, 100, 0, 0]],
  ['no number', { input_tokens: '7' }, { output_tokens: 'many' }, [1000, 100, 0, 0]],
  ['absurd', { input_tokens: 1e300 }, { output_tokens: 1e15 }, [1000, 100, 0, 0]],
  ['fractional', { input_tokens: 1.5 }, { output_tokens: 0.5 }, [1000, 100, 0, 0]],
  ['wrong in the end but larger before', { input_tokens: 5000 }, { input_tokens: -1 }, [5000, 100, 0, 0]],
  [
    'wrong for cache writes',
    { input_tokens: 10, cache_creation_input_tokens: -4 },
    { output_tokens: 9 },
    [1000, 9, 0, 0],
  ],
  ['all cached', { input_tokens: 0, cache_read_input_tokens: 50 }, { output_tokens: 9 }, [0, 9, 50, 0]],
] as const) {
  test(`usage that is ${name} is charged with the larger of estimate and report`, () => {
    assert.deepEqual(tokens(stream(streamOf(text, { start, end }))), expected);
  });
}

test('a cut stream is charged with what was seen', () => {
  const whole = streamOf(text);
  const cut = whole.slice(0, whole.indexOf('event: message_delta'));
  const reading = stream(cut);
  assert.deepEqual(tokens(reading), [10, 100, 0, 0]);
  assert.equal(reading.failure?.code, 'upstream_error');
});

test('a cut stream is never charged with less than its text, however that is written', () => {
  for (const said of ['"\\\n'.repeat(200), 'äß💥'.repeat(100), '","text":"'.repeat(50)]) {
    const whole = streamOf(said);
    for (const written of [whole, whole.replaceAll('":', '": ').replaceAll('{"type"', '{ "type"')]) {
      const [, output = 0] = tokens(stream(written.slice(0, written.indexOf('event: message_delta'))));
      assert.ok(output >= said.length / 4, `${output} tokens for ${said.length} characters`);
    }
  }
});

test('an answer that is no message is charged by its bytes and is a failure', () => {
  for (const reading of [stream('x'.repeat(40)), message('x'.repeat(38))]) {
    assert.deepEqual(tokens(reading), [1000, 10, 0, 0]);
    assert.equal(reading.failure?.code, 'upstream_error');
  }
});

test('an error event is the failure of a stream that ended well otherwise', () => {
  const event = (type: string) => `event: error\ndata: {"type":"error","error":{"type":"${type}","message":"m"}}\n\n`;
  assert.equal(stream(event('overloaded_error') + streamOf('Hi')).failure?.code, 'upstream_overloaded');
  assert.equal(stream(event('api_error')).failure?.code, 'upstream_error');
});

test('a stream is known to be whole with its last event, not later', () => {
  const meter = createMeter('text/event-stream', requestBytes);
  const body = streamOf('Hi');
  assert.equal(meter.push(Buffer.from(body.slice(0, -1))), false);
  assert.equal(meter.push(Buffer.from(body.slice(-1))), true);
});

test('nonsense in known events does not disturb the meter', () => {
  const junk = ['null', '7', '[1,2', '"x"', '{"type":"message_start"}', '{"type":"message_delta","usage":[]}'];
  junk.push(
    '{"type":"content_block_delta"}',
    '{"type":"content_block_delta","delta":{"text":5}}',
    '{"__proto__":{"a":1}}',
  );
  const reading = stream(junk.map((data) => `data: ${data}\n\n`).join('') + streamOf('Hi'));
  assert.deepEqual(tokens(reading), [10, 20, 0, 0]);
  assert.equal(reading.failure, null);
});
