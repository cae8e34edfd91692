import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SocketFrameType } from '@sallyport/protocol';
import fc from 'fast-check';
import { errorOf, openSocket, refusalOf, socketApp, type Client } from './socket-support.ts';
import { eventually, exchange, secretOf } from './testing.ts';

const limit = { timeout: 30_000 };

const noObjects = [
  '',
  ' ',
  'x',
  '{',
  '{"type":"ping"',
  '{"type":"ping"}{}',
  '\uFEFF{"type":"ping"}',
  'null',
  'true',
  '1',
  '"ping"',
  '[]',
  '[{"type":"ping"}]',
  '{}',
  '{"Type":"ping"}',
  '{"type":null}',
  '{"type":1}',
  '{"type":["ping"]}',
  '{"type":{"ping":1}}',
  '{"type":"PING"}',
  '{"type":"ping "}',
  '{"type":"toString"}',
  '{"type":"__proto__"}',
  '{"type":"constructor"}',
  '{"type":"claude_response"}',
  '{"__proto__":{"type":"ping"}}',
  '{"type":"ping","__proto__":{}}',
  '['.repeat(20_000),
  `{"type":"ping","x":${'['.repeat(60)}${']'.repeat(60)}}`,
];

test(
  'what is no JSON object of a known type gets an error frame each, in order, and the socket lives',
  limit,
  async () => {
    const { app, port, engine, sockets } = await socketApp();
    const client = await openSocket(port);
    for (const text of noObjects) {
      const error = await refusalOf(client, text);
      assert.deepEqual([error.code, error.in_reply_to, error.retryable], ['bad_message', null, false], text);
    }
    for (const text of noObjects) client.send(text);
    const told = await client.ping();
    assert.equal(told.length, noObjects.length);
    assert.equal(new Set(told.map((frame) => errorOf(frame).request_id)).size, noObjects.length);
    assert.equal(engine.asked.length, 0);
    sockets.terminate();
    await app.close();
  },
);

const wrong: [SocketFrameType, object, string][] = [
  ['ping', { x: 1 }, 'x'],
  ['start_conversation', {}, 'prompt'],
  ['start_conversation', { prompt: '' }, 'prompt'],
  ['start_conversation', { prompt: 1 }, 'prompt'],
  ['start_conversation', { prompt: 'x'.repeat(10_001) }, 'prompt'],
  ['start_conversation', { prompt: '\ud800' }, 'prompt'],
  ['start_conversation', { prompt: 'x', max_turns: 0 }, 'max_turns'],
  ['start_conversation', { prompt: 'x', max_turns: 11 }, 'max_turns'],
  ['start_conversation', { prompt: 'x', max_turns: '5' }, 'max_turns'],
  ['start_conversation', { prompt: 'x', permission_mode: 'bypassPermissions' }, 'permission_mode'],
  ['start_conversation', { prompt: 'x', allowed_tools: ['Nothing'] }, 'allowed_tools'],
  ['start_conversation', { prompt: 'x', session_id: 'a/b' }, 'session_id'],
  ['start_conversation', { prompt: 'x', session_id: '..' }, 'session_id'],
  ['start_conversation', { prompt: 'x', files: [{ path: 'a', content: '' }], project_path: '/a' }, 'files'],
  ['start_conversation', { prompt: 'x', cwd: '/' }, 'cwd'],
  ['send_message', {}, 'message'],
  ['send_message', { message: '' }, 'message'],
  ['send_message', { message: 'x'.repeat(5_001) }, 'message'],
  ['send_message', { message: 'x', session_id: 1 }, 'session_id'],
  ['send_message', { message: 'x', prompt: 'x' }, 'prompt'],
  ['end_conversation', { session_id: '' }, 'session_id'],
  ['end_conversation', { all: true }, 'all'],
  ['resume', {}, 'session_id'],
  ['resume', { session_id: null }, 'session_id'],
  ['resume', { session_id: 'x', after: 1 }, 'after'],
  ['resume', { session_id: 'x', follow: false }, 'follow'],
  ['interrupt', { session_id: ['x'] }, 'session_id'],
  ['approval', { decision: 'allow' }, 'approval_id'],
  ['approval', { approval_id: 'x' }, 'decision'],
  ['approval', { approval_id: 'x', decision: 'maybe' }, 'decision'],
  ['approval', { approval_id: 'x', decision: 'allow', remember: 'always' }, 'remember'],
  ['approval', { approval_id: 'x', decision: 'allow', updated_input: [] }, 'updated_input'],
  ['answer', { question_id: 'x' }, 'answers'],
  ['answer', { question_id: 'x', answers: { q: 1 } }, 'answers'],
  ['answer', { approval_id: 'x', answers: {} }, 'question_id'],
];

test('a frame of a known type with a wrong, missing or unknown field names it', limit, async () => {
  const { app, port, engine, sockets } = await socketApp();
  const client = await openSocket(port);
  for (const [type, fields, name] of wrong) {
    const error = await refusalOf(client, { type, ...fields });
    assert.deepEqual([error.code, error.in_reply_to], ['validation_failed', type]);
    const names = error.issues?.map(({ loc }) => loc[1]);
    assert.ok(
      names?.includes(name),
      `${type} ${JSON.stringify(fields).slice(0, 100)}: ${JSON.stringify(error.issues)}`,
    );
  }
  assert.equal(engine.asked.length, 0);
  sockets.terminate();
  await app.close();
});

test('whatever text comes, each frame is refused at most once and the socket lives', limit, async () => {
  const { app, port, sockets } = await socketApp();
  const client = await openSocket(port);
  const type = fc.constantFrom('resume', 'send_message', 'approval', 'answer', 'interrupt', 'end_conversation', 'x');
  const near = fc
    .tuple(
      type,
      fc.dictionary(fc.constantFrom('session_id', 'after', 'message', 'approval_id', '__proto__'), fc.jsonValue()),
    )
    .map(([name, fields]) => JSON.stringify({ type: name, ...fields }));
  const text = fc.oneof(fc.string({ unit: 'binary' }), fc.json(), near);
  await fc.assert(
    fc.asyncProperty(fc.array(text, { maxLength: 20 }), async (frames) => {
      for (const frame of frames) client.send(frame);
      const told = await client.ping();
      assert.ok(told.filter((frame) => frame.type === 'error').length <= frames.length);
    }),
    { numRuns: 100 },
  );
  sockets.terminate();
  await app.close();
});

for (const [what, spoil, code] of [
  ['a binary frame', (client: Client) => client.socket.send(Buffer.from('{"type":"ping"}')), 1003],
  ['a frame that is too large', (client: Client) => client.send('x'.repeat(100_001)), 1009],
  [
    'text that is not UTF-8',
    (client: Client) => client.socket.send(Buffer.from([0x22, 0xff, 0x22]), { binary: false }),
    1007,
  ],
] as const) {
  test(`${what} closes its socket with ${code}, and no other`, limit, async () => {
    const { app, port, engine, sockets } = await socketApp();
    const other = await openSocket(port);
    const client = await openSocket(port);
    spoil(client);
    client.send({ type: 'resume', session_id: 'conv-1' });
    assert.equal((await client.closed).code, code);
    assert.deepEqual(await other.ping(), []);
    assert.equal(engine.asked.length, 0, 'what came after it is not worked on');
    sockets.terminate();
    await app.close();
  });
}

test('bytes that are no frame close their connection with 1002', limit, async () => {
  const { app, port, sockets } = await socketApp();
  const other = await openSocket(port);
  const head = [
    'GET /ws/a HTTP/1.1',
    'Host: localhost',
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    'Sec-WebSocket-Extensions: permessage-deflate',
    `Authorization: Bearer ${secretOf('user')}`,
  ].join('\r\n');
  for (const bytes of [
    [0x81, 0x01, 0x41], // not masked
    [0xc1, 0x81, 0, 0, 0, 0, 0x41], // compressed, although that was not agreed
    [0x83, 0x80, 0, 0, 0, 0], // a code that nothing has
    [0x80, 0x81, 0, 0, 0, 0, 0x41], // goes on with what was not begun
    [0x09, 0x80, 0, 0, 0, 0], // a ping in pieces
  ]) {
    const answer = await exchange(port, `${head}\r\n\r\n`, Buffer.from(bytes));
    assert.match(answer, /^HTTP\/1\.1 101 /u);
    assert.doesNotMatch(answer, /permessage-deflate/iu);
    assert.equal(Buffer.from(answer.slice(-4), 'latin1').toString('hex'), '880203ea', String(bytes));
  }
  await eventually(() => sockets.size === 1);
  assert.deepEqual(await other.ping(), []);
  sockets.terminate();
  await app.close();
});
