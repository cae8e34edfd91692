import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SocketFrameType } from '@sallyport/protocol';
import { SallyportError } from '../engine/errors.ts';
import { aborted, waitingPlay } from './engine-support.ts';
import { openSocket, refusalOf, socketApp } from './socket-support.ts';

const limit = { timeout: 30_000 };

test(
  'what the engine refuses is an error frame with its code, and a failure of ours tells nothing',
  limit,
  async () => {
    const { app, port, engine, sockets, log } = await socketApp();
    const client = await openSocket(port);
    const frames: [SocketFrameType, object][] = [
      ['start_conversation', { prompt: 'x' }],
      ['send_message', { message: 'x', session_id: 'conv-1' }],
      ['end_conversation', { session_id: 'conv-1' }],
      ['resume', { session_id: 'conv-1' }],
      ['interrupt', { session_id: 'conv-1' }],
      ['approval', { approval_id: 'appr-1', decision: 'deny' }],
      ['answer', { question_id: 'appr-1', answers: {} }],
    ];
    for (const code of ['conversation_busy', 'conversation_not_found', 'already_decided', 'overloaded'] as const) {
      engine.refusal = new SallyportError(code, { retryAfter: 1.2 });
      for (const [type, fields] of frames) {
        const error = await refusalOf(client, { type, ...fields });
        assert.deepEqual([error.code, error.in_reply_to, error.retry_after], [code, type, 2]);
      }
    }
    engine.refusal = new Error('canary');
    for (const [type, fields] of frames) {
      const error = await refusalOf(client, { type, ...fields });
      assert.equal(error.code, 'internal');
      assert.doesNotMatch(JSON.stringify(error), /canary/u);
      assert.ok(log.some((line) => line['request_id'] === error.request_id && JSON.stringify(line).includes('canary')));
    }
    engine.refusal = null;
    assert.deepEqual(await client.ping(), []);
    sockets.terminate();
    await app.close();
  },
);

test('frames reach the engine as what they ask for', limit, async () => {
  const { app, port, engine, sockets } = await socketApp();
  engine.reading = async function* reading({ signal }) {
    await aborted(signal);
    yield* [];
  };
  const client = await openSocket(port);
  client.send({
    type: 'start_conversation',
    prompt: 'hi',
    session_id: 'mine',
    system_prompt: null,
    allowed_tools: ['LS'],
  });
  await client.until('conversation_started');
  client.send({ type: 'approval', approval_id: 'appr-1', decision: 'deny', message: 'no' });
  client.send({
    type: 'approval',
    approval_id: 'appr-2',
    decision: 'allow',
    remember: 'conversation',
    updated_input: { a: 1 },
  });
  client.send({ type: 'answer', question_id: 'appr-3', answers: { 'Which?': 'this', 'What?': ['a', 'b'] } });
  client.send({ type: 'interrupt' });
  client.send({ type: 'interrupt', session_id: 'other' });
  client.send({ type: 'send_message', message: 'more', session_id: null });
  client.send({ type: 'end_conversation', session_id: 'other' });
  await client.ping();
  const asked = engine.asked.filter(({ what }) => what !== 'events');
  assert.ok(asked.every(({ principal }) => principal.key === 'user'));
  const start = asked[0]?.rest[0] as Record<string, unknown>;
  assert.deepEqual(
    [start['prompt'], start['max_turns'], start['permission_mode'], start['allowed_tools'], 'type' in start],
    ['hi', 5, 'askForEdits', ['Glob'], false],
  );
  assert.deepEqual(
    asked.map(({ what, id }) => [what, id]),
    [
      ['start', 'mine'],
      ['decide', 'appr-1'],
      ['decide', 'appr-2'],
      ['decide', 'appr-3'],
      ['interrupt', 'conv-1'],
      ['interrupt', 'other'],
      ['continue', 'conv-1'],
      ['delete', 'other'],
    ],
  );
  assert.deepEqual(
    asked.slice(1, 4).map(({ rest }) => rest[0]),
    [
      { decision: 'deny', message: 'no', remember: 'none' },
      { decision: 'allow', remember: 'conversation', updated_input: { a: 1 } },
      { decision: 'allow', remember: 'none', answers: { 'Which?': 'this', 'What?': ['a', 'b'] } },
    ],
  );
  sockets.terminate();
  await app.close();
});

test('a frame about the conversation of the socket is refused while it has none', limit, async () => {
  const { app, port, engine, sockets } = await socketApp();
  const client = await openSocket(port);
  for (const frame of [{ type: 'send_message', message: 'x' }, { type: 'interrupt' }]) {
    assert.equal((await refusalOf(client, frame)).code, 'conversation_not_found');
  }
  client.send({ type: 'end_conversation' });
  assert.deepEqual(await client.next(), { type: 'conversation_ended', session_id: null });
  assert.equal(engine.asked.length, 0);
  sockets.terminate();
  await app.close();
});

test('a turn that runs holds no frame up', limit, async () => {
  const { app, port, engine, sockets } = await socketApp();
  engine.play = waitingPlay;
  engine.reading = async function* reading({ signal }) {
    await aborted(signal);
    yield* [];
  };
  const client = await openSocket(port);
  client.send({ type: 'start_conversation', prompt: 'x' });
  await client.until('claude_response'); // it runs, and waits to be stopped
  assert.deepEqual(await client.ping(), []);
  client.send({ type: 'approval', approval_id: 'appr-1', decision: 'allow' });
  assert.deepEqual(await client.ping(), []);
  assert.equal(engine.asked.at(-1)?.what, 'decide');
  client.send({ type: 'interrupt' });
  const [last] = (await client.until('claude_response')).slice(-1);
  assert.ok(last?.type === 'claude_response' && last.event_type === 'result' && last.is_complete);
  assert.equal(last.stop_reason, 'interrupted');
  sockets.terminate();
  await app.close();
});
