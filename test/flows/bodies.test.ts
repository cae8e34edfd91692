import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { errorBody, queryResponse } from '@sallyport/protocol';
import { answerOf, callsWith } from '../support/runs.ts';
import { startService, userKey, type TestService } from '../support/service.ts';

let service: TestService;
before(async () => {
  service = await startService({ script: { steps: [{ text: 'Here I am.' }] } });
});
after(() => service.close());

/** Sends bytes as the body and gives status and code. */
async function post(
  body: string | Buffer | ReadableStream,
  headers: Record<string, string> = {},
): Promise<[number, string]> {
  const response = await fetch(`${service.url}/api/claude/query`, {
    method: 'POST',
    headers: { authorization: `Bearer ${userKey}`, 'content-type': 'application/json', ...headers },
    body,
    duplex: 'half',
  });
  return [response.status, errorBody.parse(await response.json()).code];
}

describe('a body', () => {
  test('that is not one JSON object in UTF-8 is refused', async () => {
    for (const bytes of [
      '',
      '{',
      'null x',
      '{"prompt": "x"',
      "{'prompt': 'x'}",
      '{"prompt": NaN}',
      '\ufeff{"prompt":"x"}',
      '{"__proto__": {"prompt": "x"}}',
      '['.repeat(10_000),
    ]) {
      assert.deepEqual(await post(bytes), [400, 'invalid_json'], bytes.slice(0, 40));
    }
    for (const broken of [[0xff], [0xc3], [0xed, 0xa0, 0x80], [0xf8, 0x88, 0x80, 0x80, 0x80], [0xc0, 0xaf]]) {
      const bytes = Buffer.concat([Buffer.from('{"prompt": "a'), Buffer.from(broken), Buffer.from('b"}')]);
      assert.deepEqual(await post(bytes), [400, 'invalid_json'], broken.join(' '));
    }
    assert.deepEqual(await post(Buffer.from('{"prompt": "x"}', 'utf16le')), [400, 'invalid_json']);
    for (const json of ['null', '[]', '"x"', '3', '[{"prompt": "x"}]']) {
      assert.deepEqual(await post(json), [422, 'validation_failed'], json);
    }
  });

  test('of another type is refused', async () => {
    for (const type of [
      'text/plain',
      'application/json; charset=latin1',
      'application/x-www-form-urlencoded',
      'application/jsonx',
    ]) {
      assert.deepEqual(await post('{"prompt": "x"}', { 'content-type': type }), [415, 'unsupported_media_type'], type);
    }
    assert.deepEqual(await post('{"prompt": "x"}', { 'content-encoding': 'gzip' }), [415, 'unsupported_media_type']);
  });

  test('of ten megabytes is refused, with and without a length', async () => {
    const large = JSON.stringify({ prompt: 'x'.repeat(10_000_000) });
    assert.deepEqual(await post(large), [413, 'body_too_large']);
    assert.deepEqual(await post(new Blob([large]).stream()), [413, 'body_too_large']);
  });
});

test('a key that is not ASCII is no key', async () => {
  for (const key of ['schlüssel-schlüssel-schlüssel', '🎈', `${userKey}é`, 'null', '']) {
    const socket = connect(Number(new URL(service.url).port), '127.0.0.1');
    socket.end(
      `POST /api/claude/query HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${key}\r\nContent-Type: application/json\r\nContent-Length: 15\r\nConnection: close\r\n\r\n{"prompt": "x"}`,
    );
    assert.match(await text(socket), /^HTTP\/1\.1 401 [\s\S]*"code":"(?:invalid_key|unauthenticated)"/u);
  }
});

test('nothing of all that was run', () => {
  assert.deepEqual(service.sallyport.processes(), []);
  assert.deepEqual(service.simulator.requests, []);
});

describe('bodies as Python clients send them work', { concurrency: 2 }, () => {
  const whole = {
    max_turns: 3,
    system_prompt: null,
    project_path: null,
    permission_mode: 'askForEdits',
    allowed_tools: ['Read', 'Grep', 'LS'],
    timeout: 60,
  };
  const bodies: Readonly<Record<string, object>> = {
    'with every default of the model': whole,
    'with no tools named': { ...whole, allowed_tools: null },
    'with the prompt alone': {},
    'of a health check': { max_turns: 1, timeout: 10 },
    'with prompts that look like flags': { system_prompt: '--settings={"env":{}}', permission_mode: 'readOnly' },
  };
  for (const [name, rest] of Object.entries(bodies)) {
    test(name, async () => {
      const prompt = `--dangerously-skip-permissions ${name} über 🎈`;
      // Python escapes what is not ASCII.
      const response = await fetch(`${service.url}/api/claude/query`, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${userKey}`,
          'content-type': 'application/json',
          'user-agent': 'python-requests/2.32',
        },
        body: escaped({ prompt, ...rest }),
      });
      const body = queryResponse.parse(await response.json());
      assert.equal(response.status, 200);
      assert.deepEqual([body.success, body.error, answerOf(body)], [true, null, 'Here I am.']);
      assert.deepEqual(
        body.messages.map(({ role, content }) => [role, content]),
        [
          ['user', prompt],
          ['assistant', 'Here I am.'],
        ],
      );
      assert.ok(body.tokens_used > 0 && body.execution_time > 0);
      assert.equal(callsWith(service, name).length, 1);
    });
  }
});

/** JSON in ASCII. */
function escaped(value: unknown): string {
  return JSON.stringify(value).replaceAll(
    /[\u0080-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
