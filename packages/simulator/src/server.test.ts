import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { ask, content, events, fetchRaw, send, until, user } from '../test/raw-client.ts';
import { SIMULATOR_MODEL, startSimulator } from './index.ts';
import type { Simulator, Step } from './index.ts';

let simulator: Simulator;
const lines: string[] = [];

before(async () => {
  simulator = await startSimulator({
    script: { steps: [{ text: 'from the start' }] },
    log: (line) => lines.push(line),
  });
});

beforeEach(() => {
  simulator.reset();
  lines.length = 0;
});

after(() => simulator.close());

const rich: Step = {
  thinking: 'Let me think about this.',
  text: 'Here are two calls 👩‍🚀 and a long enough text.',
  tools: [
    { name: 'Read', input: { file_path: 'a long path/with parts.txt' }, id: 'toolu_given' },
    { name: 'Glob', input: {} },
  ],
};

test('a stream has all events of the Messages API in order, and its pieces join to the answer', async () => {
  simulator.play({ steps: [{ ...rich, chunk: 7 }] });
  const answer = await fetchRaw(simulator, ask('hello'));
  assert.equal(answer.status, 200);
  assert.equal(answer.end, 'clean');
  assert.match(answer.headers['content-type'] ?? '', /^text\/event-stream/);
  assert.match(String(answer.headers['request-id']), /^req_/);
  const list = events(answer.body);
  const squeezed = list.map((event) => event.delta?.type ?? event.type).filter((name, at, all) => name !== all[at - 1]);
  const expected = ['message_start', 'content_block_start', 'ping', 'thinking_delta', 'signature_delta'];
  expected.push('content_block_stop', 'content_block_start', 'text_delta', 'content_block_stop');
  expected.push('content_block_start', 'input_json_delta', 'content_block_stop');
  expected.push('content_block_start', 'input_json_delta', 'content_block_stop', 'message_delta', 'message_stop');
  assert.deepEqual(squeezed, expected);
  const text = list.filter((event) => event.delta?.type === 'text_delta').map((event) => event.delta?.['text']);
  assert.ok(text.length > 3);
  assert.ok(text.every((piece) => String(piece).isWellFormed()));
  assert.equal(text.join(''), rich.text);
  const json = list.filter((event) => event.delta?.type === 'input_json_delta' && event.index === 2);
  assert.ok(json.length > 3);
  assert.equal(json.map((event) => event.delta?.['partial_json']).join(''), JSON.stringify(rich.tools?.[0]?.input));
  const starts = list.filter((event) => event.type === 'content_block_start').map((event) => event.content_block);
  assert.deepEqual(starts[2], { type: 'tool_use', id: 'toolu_given', name: 'Read', input: {} });
  assert.match(String(starts[3]?.['id']), /^toolu_01/);
});

test('a stream begins with an open message and ends with stop reason and usage', async () => {
  simulator.play({ steps: [rich] });
  const list = events((await fetchRaw(simulator, ask('hello'))).body);
  const begun = list[0]?.message;
  assert.equal(begun?.['model'], SIMULATOR_MODEL);
  assert.deepEqual(begun?.['content'], []);
  assert.equal(begun?.['stop_reason'], null);
  const last = list.at(-2);
  assert.deepEqual(last?.delta, { stop_reason: 'tool_use', stop_sequence: null });
  assert.ok(Number(last?.usage?.['input_tokens']) > 0);
  assert.ok(Number(last?.usage?.['output_tokens']) > 10);
});

test('a call without stream gets the same answer as one JSON body', async () => {
  simulator.play({ steps: [rich] });
  const answer = await fetchRaw(simulator, ask('hello', { stream: false }));
  assert.match(answer.headers['content-type'] ?? '', /^application\/json/);
  const body = JSON.parse(answer.body);
  assert.equal(body.type, 'message');
  assert.equal(body.role, 'assistant');
  assert.equal(body.model, SIMULATOR_MODEL);
  assert.equal(body.stop_reason, 'tool_use');
  assert.deepEqual(
    body.content.map((block: { type: string }) => block.type),
    ['thinking', 'text', 'tool_use', 'tool_use'],
  );
  assert.equal(body.content[1].text, rich.text);
  assert.deepEqual(body.content[2].input, rich.tools?.[0]?.input);
});

test('blocks, stop reason, usage and structured output come as the step says', async () => {
  simulator.play({
    steps: [
      {
        blocks: [
          { type: 'text', text: 'a' },
          { type: 'tool_use', name: 'X', input: null },
          { type: 'text', text: '' },
        ],
        stop_reason: 'refusal',
        usage: { input_tokens: 7, output_tokens: 8, cache_read_input_tokens: 9, cache_creation_input_tokens: 10 },
      },
    ],
  });
  const first = JSON.parse((await fetchRaw(simulator, ask('a', { stream: false }))).body);
  assert.deepEqual(
    first.content.map((block: { type: string }) => block.type),
    ['text', 'tool_use', 'text'],
  );
  assert.equal(first.stop_reason, 'refusal');
  const { service_tier: _tier, ...usage } = first.usage;
  const wanted = { input_tokens: 7, output_tokens: 8, cache_read_input_tokens: 9, cache_creation_input_tokens: 10 };
  assert.deepEqual(usage, wanted);
  simulator.play({ steps: [{ structured: { a: [1] } }] });
  const second = JSON.parse((await fetchRaw(simulator, ask('b', { stream: false }))).body);
  assert.equal(second.content[0].name, 'StructuredOutput');
  assert.deepEqual(second.content[0].input, { a: [1] });
  assert.equal(second.stop_reason, 'tool_use');
});

test('usage grows with the lengths, counts an image flat, and agrees with count_tokens', async () => {
  const count = async (text: string, more = {}) => {
    const body = { model: 'm', messages: [user(text)], ...more };
    const answer = await send(simulator.url, body, { path: '/v1/messages/count_tokens' }).done;
    return Number(JSON.parse(answer.body).input_tokens);
  };
  const image = { type: 'image', source: { type: 'base64', media_type: 'image/png', data: 'A'.repeat(400_000) } };
  assert.ok((await count('hi')) > 0);
  assert.ok((await count('hi'.repeat(400))) >= (await count('hi')) + 190);
  const withImage = await count('', { messages: [user([image])] });
  assert.ok(withImage > 1000 && withImage < 3000);
  const answer = JSON.parse((await fetchRaw(simulator, ask('hi', { stream: false }))).body);
  assert.equal(answer.usage.input_tokens, await count('hi'));
});

test('message ids are unique', async () => {
  const ids = new Set<string>();
  for (let times = 0; times < 5; times++)
    ids.add(JSON.parse((await fetchRaw(simulator, ask('x', { stream: false }))).body).id);
  assert.equal(ids.size, 5);
});

test('what is no valid request is refused in the error shape of the API', async () => {
  const cases: [unknown, number, RegExp, { path?: string; method?: string }?][] = [
    ['{"model": ', 400, /not valid JSON/],
    ['[]', 400, /should be an object/],
    [{ max_tokens: 1, messages: [] }, 400, /^model: Field required/],
    [{ model: 'm', messages: [user('a')] }, 400, /^max_tokens: Field required/],
    [{ model: 'm', max_tokens: 0, messages: [user('a')] }, 400, /^max_tokens/],
    [{ model: 'm', max_tokens: 1 }, 400, /^messages: Field required/],
    [{ model: 'm', max_tokens: 1, messages: [] }, 400, /at least one message/],
    [{ model: 'm', max_tokens: 1, messages: [{ role: 'boss', content: 'a' }] }, 400, /^messages\.0\.role/],
    [{ model: 'm', max_tokens: 1, messages: [user('a'), { role: 'user' }] }, 400, /^messages\.1\.content/],
    [{ model: 'm', max_tokens: 1, messages: [user('a')], tools: [{}] }, 400, /^tools\.0\.name/],
    [ask('a'), 404, /Not found/, { path: '/v1/complete' }],
    ['', 404, /Not found/, { method: 'GET' }],
  ];
  for (const [body, status, message, options] of cases) {
    const answer = await send(simulator.url, body, options).done;
    const error = JSON.parse(answer.body);
    assert.equal(answer.status, status);
    assert.equal(error.type, 'error');
    assert.equal(error.error.type, status === 400 ? 'invalid_request_error' : 'not_found_error');
    assert.match(error.error.message, message);
    assert.equal(error.request_id, answer.headers['request-id']);
  }
  assert.ok(simulator.requests.every((request) => request.outcome === 'answered' && request.body === null));
});

test('a body of 40 MB is taken, a larger one refused with 413', async () => {
  const filled = (bytes: number) => {
    const empty = JSON.stringify(ask(''));
    return empty.replace('"content":""', `"content":"${'a'.repeat(bytes - empty.length)}"`);
  };
  const limit = 40 * 1024 * 1024;
  assert.equal((await send(simulator.url, filled(limit)).done).status, 200);
  const tooLarge = await send(simulator.url, filled(limit + 1)).done;
  assert.equal(tooLarge.status, 413);
  assert.equal(JSON.parse(tooLarge.body).error.type, 'request_too_large');
});

test('requests are recorded with headers, body, session and outcome', async () => {
  await fetchRaw(simulator, ask('remember me'), 'session-1');
  const [request] = simulator.requests;
  assert.equal(simulator.requests.length, 1);
  assert.equal(request?.method, 'POST');
  assert.equal(request?.path, '/v1/messages?beta=true');
  assert.equal(request?.headers['x-api-key'], 'key-of-the-test');
  assert.equal(request?.sessionId, 'session-1');
  assert.deepEqual(request?.body, ask('remember me'));
  assert.equal(request?.outcome, 'answered');
  assert.ok(request.finishedAt !== null && request.finishedAt >= request.at);
});

test('only the newest 1000 requests are kept, and no bodies if so wanted', async () => {
  const other = await startSimulator({ recordBodies: false });
  try {
    for (let number = 0; number < 1005; number++) {
      const response = await fetch(`${other.url}/${number}`);
      await response.text();
    }
    assert.equal(other.requests.length, 1000);
    assert.equal(other.requests[0]?.path, '/5');
    await fetchRaw(other, ask('hello'));
    assert.equal(other.requests.at(-1)?.outcome, 'answered');
    assert.equal(other.requests.at(-1)?.body, null);
  } finally {
    await other.close();
  }
});

test('play replaces what is answered, reset goes back to the start', async () => {
  const text = async () => content((await fetchRaw(simulator, ask('hello'))).body);
  assert.equal(await text(), 'from the start');
  simulator.play((request, { call, attempt, session }) => ({
    text: `${request.messages.length} ${call} ${attempt} ${session}`,
  }));
  assert.equal(await text(), '1 0 1 null');
  assert.equal(await text(), '1 0 2 null');
  simulator.reset();
  assert.equal(simulator.requests.length, 0);
  assert.equal(await text(), 'from the start');
});

test('a brain that throws gives a 500, and the next request is served', async () => {
  simulator.play(() => {
    throw new Error('no idea');
  });
  const answer = await fetchRaw(simulator, ask('hello'));
  assert.equal(answer.status, 500);
  assert.match(JSON.parse(answer.body).error.message, /no idea/);
  assert.equal(simulator.requests[0]?.outcome, 'faulted');
  simulator.reset();
  assert.equal((await fetchRaw(simulator, ask('hello'))).status, 200);
});

test('a rate sends four characters at a time and lets a client leave in the middle', async () => {
  simulator.play({ steps: [{ text: 'slow enough to leave it', rate: 0.5 }] });
  const slow = send(simulator.url, ask('hello'));
  await until(() => slow.answer.status === 200, 'the headers');
  assert.equal(simulator.requests[0]?.outcome, 'pending');
  slow.leave();
  await until(() => simulator.requests[0]?.outcome === 'client_left', 'the leaving to be seen');
  simulator.play({ steps: [{ text: 'fast after all', rate: 10_000 }] });
  const fast = await fetchRaw(simulator, ask('hello'));
  const pieces = events(fast.body).flatMap((event) => event.delta?.['text'] ?? []);
  assert.deepEqual(pieces, ['fast', ' aft', 'er a', 'll']);
});

test('a client that leaves before the answer begins is seen', async () => {
  simulator.play({ steps: [{ text: 'late', delay_ms: 3_600_000 }] });
  const waiting = send(simulator.url, ask('hello'));
  await until(() => simulator.requests[0]?.body !== null && simulator.requests.length === 1, 'the request');
  waiting.leave();
  await until(() => simulator.requests[0]?.outcome === 'client_left', 'the leaving to be seen');
});

test('close ends open streams and hanging requests', async () => {
  const other = await startSimulator({
    script: { steps: [{ text: 'abc', fault: { kind: 'stall', after_chars: 1 } }] },
  });
  const stalled = send(other.url, ask('one'));
  const hanging = send(other.url, ask('<<simulate [{"fault":{"kind":"hang"}}]>>'));
  await until(() => stalled.answer.body.includes('"text":"a"'), 'the first delta');
  await until(() => other.requests.length === 2, 'the second request');
  await other.close();
  await other.close();
  assert.equal((await stalled.done).end, 'broken');
  assert.equal((await hanging.done).status, 0);
  assert.deepEqual(
    other.requests.map((request) => request.outcome),
    ['faulted', 'faulted'],
  );
  await assert.rejects(fetch(other.url));
});

test('each finished request is logged in one line without body and key', async () => {
  await fetchRaw(simulator, ask('a secret prompt'), 'session-9');
  assert.equal(lines.length, 1);
  assert.match(lines[0] ?? '', /^POST \/v1\/messages\?beta=true 200 answered session=session-9$/);
});

test('a port in use rejects', async () => {
  await assert.rejects(startSimulator({ port: Number(new URL(simulator.url).port) }), { code: 'EADDRINUSE' });
});
