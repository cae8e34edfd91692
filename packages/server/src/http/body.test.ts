import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { test } from 'node:test';
import type { FastifyInstance, LightMyRequestResponse } from 'fastify';
import { parseJson } from './body.ts';
import { bearer, exchange, listen, secretOf, testApp } from './testing.ts';

const url = '/api/claude/query';
const good = JSON.stringify({ prompt: 'x' });

function send(app: FastifyInstance, payload: string | Buffer, headers: Record<string, string> = {}) {
  return app.inject({
    method: 'POST',
    url,
    payload,
    headers: { 'content-type': 'application/json', ...bearer('user'), ...headers },
  });
}

const codeOf = (answer: LightMyRequestResponse): string => answer.json<{ code: string }>().code;

test('only plain JSON in UTF-8 is taken', async () => {
  const { app, engine } = await testApp();
  for (const type of [
    'application/json',
    'Application/JSON',
    'application/json; charset=utf-8',
    'application/json;charset=UTF-8',
    'application/json;charset="utf-8"',
  ]) {
    assert.equal((await send(app, good, { 'content-type': type })).statusCode, 200, type);
  }
  const served = engine.calls.length;
  const refused = [
    '',
    'text/plain',
    'text/json',
    'application/jsonx',
    'application/json\ta',
    'application/json a',
    'application/json;',
    'application/json; charset=utf-16',
    'application/json; charset=latin1',
    'application/json; charset=utf-8; x=y',
    'application/json; boundary=x',
    'application/json, text/plain',
    'application/ld+json',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    '*/*',
  ];
  for (const type of refused) {
    const answer = await send(app, good, { 'content-type': type });
    assert.equal(answer.statusCode, 415, type);
    assert.equal(codeOf(answer), 'unsupported_media_type');
  }
  assert.equal(engine.calls.length, served);
  await app.close();
});

test('a body without a type, with two types or with an encoding is not taken', async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  const head = `POST ${url} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer ${secretOf('user')}\r\nContent-Length: ${good.length}\r\n`;
  assert.match(await exchange(port, `${head}\r\n${good}`), /^HTTP\/1\.1 415 /);
  const types = 'Content-Type: application/json\r\nContent-Type: text/plain\r\n';
  assert.match(await exchange(port, `${head}${types}\r\n${good}`), /^HTTP\/1\.1 415 /);
  for (const encoding of ['gzip', 'br', 'deflate', 'zstd', 'identity, gzip']) {
    assert.equal((await send(app, gzipSync(good), { 'content-encoding': encoding })).statusCode, 415, encoding);
  }
  assert.equal((await send(app, good, { 'content-encoding': 'Identity' })).statusCode, 200);
  assert.equal(engine.calls.length, 1);
  await app.close();
});

test('what is not one JSON text in UTF-8 is refused as such', async () => {
  const { app, engine } = await testApp();
  const broken: (string | Buffer)[] = [
    '',
    ' ',
    '{',
    '{"prompt":"x"} x',
    "{'prompt':'x'}",
    '{"prompt":"x",}',
    'NaN',
    '\uFEFF{"prompt":"x"}',
    Buffer.from([0x22, 0xff, 0x22]),
    Buffer.concat([Buffer.from('{"prompt":"'), Buffer.from([0xc3, 0x28]), Buffer.from('"}')]),
    Buffer.concat([Buffer.from('{"prompt":"'), Buffer.from([0xed, 0xa0, 0x80]), Buffer.from('"}')]),
    Buffer.from(good, 'utf16le'),
    '{"prompt":"x","__proto__":{"a":1}}',
    '{"prompt":"x","metadata":{"__proto__":{"a":1}}}',
    '{"prompt":"x","\\u005f\\u005fproto__":1}',
    '{"prompt":"x","constructor":{"prototype":{"a":1}}}',
    `${'['.repeat(51)}${']'.repeat(51)}`,
    '['.repeat(500_000),
    `{"output_schema":${'{"a":'.repeat(60)}1${'}'.repeat(60)}}`,
  ];
  for (const body of broken) {
    const answer = await send(app, body);
    assert.equal(answer.statusCode, 400, body.toString().slice(0, 50));
    assert.equal(codeOf(answer), 'invalid_json');
  }
  assert.equal(engine.calls.length, 0);
  assert.equal(({} as Record<string, unknown>)['a'], undefined);
  await app.close();
});

test('brackets inside of strings do not nest', () => {
  const prompt = `${'[{'.repeat(200)}\\"${'['.repeat(100)}`;
  assert.deepEqual(parseJson(Buffer.from(JSON.stringify({ prompt }))), { prompt });
  const deep = `${'['.repeat(50)}${']'.repeat(50)}`;
  assert.equal(JSON.stringify(parseJson(Buffer.from(deep))), deep);
  assert.throws(() => parseJson(Buffer.from(`[${deep}]`)), { code: 'invalid_json' });
});

test('a body beyond the limit is refused without being read to its end', async () => {
  const { app, engine } = await testApp({ maxBodyBytes: 1000 });
  const port = await listen(app);
  const head = `POST ${url} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${secretOf('user')}\r\nContent-Type: application/json\r\n`;
  const announced = await exchange(port, `${head}Content-Length: 10000000\r\n\r\n`);
  assert.match(announced, /^HTTP\/1\.1 413 [^]*connection: close[^]*"code":"body_too_large"/i);
  const chunk = `100\r\n${'x'.repeat(256)}\r\n`;
  const endless = await exchange(port, `${head}Transfer-Encoding: chunked\r\n\r\n`, chunk.repeat(5));
  assert.match(endless, /^HTTP\/1\.1 413 [^]*connection: close[^]*"code":"body_too_large"/i);
  const huge = await exchange(port, `${head}Content-Length: 10000000\r\n\r\n`, Buffer.alloc(10_000_000, 'x'));
  assert.match(huge, /^HTTP\/1\.1 413 /);
  const exact = JSON.stringify({ prompt: 'x'.repeat(1000 - 13) });
  assert.equal(exact.length, 1000);
  assert.equal((await send(app, exact)).statusCode, 200);
  assert.equal(engine.calls.length, 1);
  await app.close();
});

test('a body that takes long to come in many small pieces arrives whole', async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  const bytes = Buffer.from(JSON.stringify({ prompt: 'zażółć 🦔 gęślą'.repeat(20) }));
  const head = `POST ${url} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer ${secretOf('user')}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n`;
  const pieces = [...bytes].map((byte) =>
    Buffer.concat([Buffer.from('1\r\n'), Buffer.from([byte]), Buffer.from('\r\n')]),
  );
  assert.match(await exchange(port, head, ...pieces, '0\r\n\r\n'), /^HTTP\/1\.1 200 /);
  assert.equal(engine.calls[0]?.request.prompt, 'zażółć 🦔 gęślą'.repeat(20));
  await app.close();
});
