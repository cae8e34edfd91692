import assert from 'node:assert/strict';
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { test } from 'node:test';
import type { FastifyInstance } from 'fastify';
import fc from 'fast-check';
import type { TestEngine } from './engine-support.ts';
import { bearer, exchange, listen, secretOf, testApp } from './testing.ts';

const limit = { timeout: 120_000 };
const query = '/api/claude/query';
const file = { path: 'a.txt', content: 'x' };
const whole = { prompt: 'x', output_schema: { type: 'object' }, files: [file], metadata: { a: 'x' } };
const decision = { decision: 'allow', updated_input: { a: { b: 'x' } } };

/** A good body of every kind there is, and where it goes. */
const samples: Readonly<Record<string, object>> = {
  [query]: whole,
  '/api/claude/stream': whole,
  '/api/claude/conversation/start': whole,
  '/api/claude/conversation/conv-1/continue': { session_id: 'conv-1', message: 'x' },
  '/api/claude/conversation/conv-1/fork': { session_id: 'other' },
  '/api/claude/approvals/appr-1': decision,
  '/api/claude/approvals/appr-2': { decision: 'deny', message: 'x' },
  '/api/claude/approvals/appr-3': { decision: 'allow', answers: { x: ['x'], y: 'x' } },
};

const post = (app: FastifyInstance, url: string, payload: string | Buffer, headers: Record<string, string> = {}) =>
  app.inject({
    method: 'POST',
    url,
    payload,
    headers: { ...bearer('admin'), 'content-type': 'application/json', ...headers },
  });

const asked = (engine: TestEngine): number => engine.calls.length + engine.asked.length;

/** The body with each of its strings, or keys of its own choice, replaced in turn, as JSON. */
function* replaced(value: unknown, by: string): Generator<string> {
  if (typeof value === 'string') yield by;
  if (typeof value !== 'object' || value === null) return;
  const parts = Object.entries(value).map(([key, inner]) => [JSON.stringify(key), JSON.stringify(inner)] as const);
  const whole = (all: readonly (readonly [string, string])[]) =>
    Array.isArray(value)
      ? `[${all.map(([, text]) => text).join()}]`
      : `{${all.map(([key, text]) => `${key}:${text}`).join()}}`;
  for (const [at, inner] of Object.values(value).entries()) {
    for (const text of replaced(inner, by)) yield whole(parts.with(at, [parts[at]?.[0] ?? '', text]));
  }
}

/** The body with a member added to each of its objects in turn, as JSON. */
function* extended(value: unknown, member: string): Generator<string> {
  if (typeof value !== 'object' || value === null) return;
  const text = JSON.stringify(value);
  if (!Array.isArray(value)) yield `{${member}${text === '{}' ? '' : ','}${text.slice(1)}`;
  const marks = Object.entries(value);
  for (const [key, inner] of marks) {
    for (const changed of extended(inner, member)) {
      const copy = Array.isArray(value) ? [...value] : { ...value };
      Object.assign(copy, { [key]: '<here>' });
      yield JSON.stringify(copy).replace('"<here>"', () => changed);
    }
  }
}

test('every sample is taken as it is', async () => {
  const { app, engine } = await testApp();
  for (const [url, body] of Object.entries(samples)) {
    const before = asked(engine);
    assert.equal((await post(app, url, JSON.stringify(body))).statusCode, 200, url);
    assert.ok(asked(engine) > before);
  }
  await app.close();
});

test('no key of a body reaches the prototype of anything, at any depth', limit, async () => {
  const { app, engine } = await testApp();
  const poisons = [
    '"__proto__":{"polluted":true}',
    '"__proto__":null',
    '"__proto__":"x"',
    String.raw`"\u005f_proto__":{"polluted":true}`,
    String.raw`"__pr\u006fto__":{"polluted":true}`,
    '"constructor":{"prototype":{"polluted":true}}',
    String.raw`"c\u006fnstructor":{"prototype":{"polluted":true}}`,
  ];
  for (const [url, body] of Object.entries(samples)) {
    for (const poison of poisons) {
      for (const text of extended(body, poison)) {
        const answer = await post(app, url, text);
        assert.equal(answer.statusCode, 400, text);
        assert.equal(answer.json<{ code: string }>().code, 'invalid_json');
      }
    }
  }
  assert.equal(asked(engine), 0);
  assert.equal(({} as Record<string, unknown>)['polluted'], undefined);
  assert.equal(([] as unknown as Record<string, unknown>)['polluted'], undefined);
  for (const url of ['?__proto__[polluted]=1', '?__proto__=1', '?constructor[prototype][polluted]=1', '?toString=1']) {
    const answer = await app.inject({ url: `/api/claude/conversation${url}`, headers: bearer('user') });
    assert.ok([200, 422].includes(answer.statusCode), url);
  }
  const named = { ...bearer('user'), ['__proto__']: 'x', constructor: 'x', hasOwnProperty: 'x', toString: 'x' };
  assert.equal((await app.inject({ url: '/api/claude/models', headers: named })).statusCode, 200);
  assert.equal(({} as Record<string, unknown>)['polluted'], undefined);
  await app.close();
});

test('of a key that stands twice the engine gets the value that was checked', async () => {
  const { app, engine } = await testApp();
  const runs = async (text: string) => (await post(app, query, text)).statusCode;
  assert.equal(await runs('{"prompt":"x","max_turns":2,"max_turns":99}'), 422);
  assert.equal(await runs('{"prompt":"x","permission_mode":"readOnly","permission_mode":"bypassPermissions"}'), 422);
  assert.equal(await runs(String.raw`{"prompt":"x","permission_mode":"readOnly","permission\u005fmode":"none"}`), 422);
  assert.equal(await runs('{"prompt":"x","files":[{"path":"a","path":"../a","content":""}]}'), 422);
  assert.equal(await runs('{"prompt":"x","allowed_tools":[],"allowed_tools":["Nope"]}'), 422);
  assert.equal(engine.calls.length, 0);
  assert.equal(
    await runs(String.raw`{"prompt":"a","pr\u006fmpt":"b","permission_mode":"none","permission_mode":"strict"}`),
    200,
  );
  const { prompt, permission_mode } = engine.calls[0]?.request ?? {};
  assert.deepEqual([prompt, permission_mode], ['b', 'strict']);
  await app.close();
});

const numbers = [
  '1e999',
  '-1e999',
  '9'.repeat(400),
  `0.${'0'.repeat(400)}1`,
  '1e-999',
  '-0.5',
  '9007199254740993',
  '1E400',
  '3.0000001',
];

test('no number is too large, small or long for a field to refuse it', limit, async () => {
  const { app, engine } = await testApp();
  for (const number of numbers) {
    for (const field of ['max_turns', 'timeout', 'prompt', 'model', 'files', 'metadata', 'allowed_tools', 'cache']) {
      const answer = await post(app, query, `{"prompt":"x","${field}":${number}}`);
      assert.equal(answer.statusCode, 422, `${field}: ${number}`);
    }
  }
  for (const number of ['1e999', '-1e999', '9'.repeat(400), '-0.5', '1e-999', '0', '-0']) {
    assert.equal((await post(app, query, `{"prompt":"x","max_budget_usd":${number}}`)).statusCode, 422, number);
  }
  const long = `{"prompt":"x","max_turns":${'9'.repeat(900_000)}}`;
  assert.equal((await post(app, query, long)).statusCode, 422);
  assert.equal(engine.calls.length, 0);
  await app.close();
});

test('text that is not well-formed Unicode is refused wherever a text may stand', limit, async () => {
  const { app, engine } = await testApp();
  const taken: string[] = [];
  for (const [url, body] of Object.entries(samples)) {
    for (const half of [String.raw`"\ud800"`, String.raw`"x\udc00x"`, String.raw`"\udc00\ud800"`]) {
      for (const text of replaced(body, half)) {
        const { statusCode } = await post(app, url, text);
        if (statusCode !== 400 && statusCode !== 422) taken.push(`${url}: ${text}`);
      }
    }
  }
  for (const key of ['output_schema', 'metadata']) {
    const { statusCode } = await post(app, query, String.raw`{"prompt":"x","${key}":{"\ud800":"x"}}`);
    if (statusCode !== 400 && statusCode !== 422) taken.push(`a key of ${key}`);
  }
  assert.deepEqual(taken, []);
  assert.equal(asked(engine), 0);
  await app.close();
});

test(
  'a compressed body is refused by its headers alone, however small it is and large it would be',
  limit,
  async () => {
    const { app, engine } = await testApp();
    const port = await listen(app);
    const bomb = Buffer.alloc(5_000_000, ' ');
    const packed = {
      gzip: gzipSync(bomb),
      deflate: deflateSync(bomb),
      br: brotliCompressSync(bomb),
      zstd: zstdCompressSync(bomb),
    };
    for (const [encoding, bytes] of Object.entries(packed)) {
      for (const named of [
        encoding,
        encoding.toUpperCase(),
        `identity, ${encoding}`,
        `${encoding}, ${encoding}`,
        `x-${encoding}`,
      ]) {
        const head = (length: number) =>
          `POST ${query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer ${secretOf('user')}\r\nContent-Type: application/json\r\nContent-Encoding: ${named}\r\nContent-Length: ${length}\r\n\r\n`;
        const unread = await exchange(port, head(900_000_000));
        assert.match(
          unread,
          /^HTTP\/1\.1 415 [^]*"code":"unsupported_media_type"/,
          `${named}: its body was never sent`,
        );
        assert.match(await exchange(port, head(bytes.length), bytes), /^HTTP\/1\.1 415 /, named);
      }
      const unnamed = await post(app, query, bytes);
      assert.deepEqual([unnamed.statusCode, unnamed.json<{ code: string }>().code], [400, 'invalid_json'], encoding);
      for (const header of ['transfer-encoding', 'te', 'accept-encoding']) {
        const lines = `POST ${query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer ${secretOf('user')}\r\nContent-Type: application/json\r\n${header}: ${encoding}\r\nContent-Length: ${bytes.length}\r\n\r\n`;
        assert.match(await exchange(port, lines, bytes), /^HTTP\/1\.1 4(00|15) /, header);
      }
    }
    assert.equal(engine.calls.length, 0);
    await app.close();
  },
);

test('no content type but the one is taken', limit, async () => {
  const { app, engine } = await testApp();
  const part = fc.constantFrom(
    'application/json',
    ';',
    ' ',
    '\t',
    ',',
    'charset',
    '=',
    'utf-8',
    '"',
    'utf8',
    'text',
    '/',
    '+json',
    'x',
    '*',
    '\u00a0',
    '\\',
  );
  const type = fc.oneof(
    fc.array(part, { maxLength: 8 }).map((parts) => parts.join('')),
    fc.string(),
  );
  const good = /^application\/json( *; *charset=("utf-8"|utf-8))?$/i;
  await fc.assert(
    fc.asyncProperty(type, async (text) => {
      const before = engine.calls.length;
      const { statusCode } = await post(app, query, '{"prompt":"x"}', { 'content-type': text });
      assert.equal(statusCode, good.test(text) ? 200 : 415, text);
      assert.equal(engine.calls.length - before, statusCode === 200 ? 1 : 0);
    }),
    { numRuns: 500, examples: [['application/json\ta'], ['application/json;'], ['application/json\u00a0']] },
  );
  await app.close();
});
