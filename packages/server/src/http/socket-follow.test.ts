import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  formatCursor,
  parseCursor,
  StreamProjector,
  type ClaudeResponse,
  type Delta,
  type LogEvent,
  type LogEventBody,
  type ServerFrame,
  type StreamItem,
} from '@sallyport/protocol';
import { SallyportError } from '../engine/errors.ts';
import { aborted, outcomeOf, resultItem, runResult, type Reading } from './engine-support.ts';
import { openSocket, socketApp, type Client } from './socket-support.ts';
import { eventually } from './testing.ts';

const limit = { timeout: 30_000 };

const bodies: LogEventBody[] = [
  { type: 'user_message', text: 'first', message_uuid: 'u1' },
  { type: 'thinking', message_id: 'm1', thinking: 'hm, let me see' },
  { type: 'text', message_id: 'm1', text: 'I will look 🔍 for it.' },
  {
    type: 'tool_start',
    tool_use_id: 't1',
    message_id: 'm1',
    name: 'Read',
    input: { file_path: 'a' },
    decided_by: 'mode',
  },
  { type: 'tool_end', tool_use_id: 't1', ok: true, summary: 'read' },
  { type: 'text', message_id: 'm2', text: 'Found.' },
  { type: 'result', result: runResult(), code: null },
  { type: 'user_message', text: 'second', message_uuid: 'u2' },
  { type: 'text', message_id: 'm3', text: 'Yes.' },
  { type: 'result', result: runResult(), code: null },
];
const events: LogEvent[] = bodies.map((body, index) => ({ seq: index + 1, turn: 'turn-1', at: 0, body }));

/** What a reader after a cursor is given: the log, its texts in pieces of three units as if they were live. */
function* itemsAfter(after: Reading['after']): Generator<StreamItem> {
  const projector = new StreamProjector(after);
  for (const event of events) {
    const { body } = event;
    const text = body.type === 'text' ? body.text : body.type === 'thinking' ? body.thinking : '';
    const isOpen = event.seq === projector.cursor.seq + 1;
    const pieces = isOpen ? (text.match(/[^]{1,3}/g) ?? []) : [];
    for (const [index, piece] of pieces.entries()) {
      const delta: Delta = { block: body.type === 'text' ? 'text' : 'thinking', offset: 3 * index, text: piece };
      const item = projector.delta(delta);
      if (item) yield item;
    }
    const item = projector.log(event);
    if (item) yield item;
  }
}

async function* follow({ after, signal }: Reading): AsyncGenerator<StreamItem> {
  yield* itemsAfter(after);
  await aborted(signal);
}

const responses = (frames: readonly ServerFrame[]): ClaudeResponse[] =>
  frames.filter((frame) => frame.type === 'claude_response');

/** Takes events up to and with the one under the cursor. */
async function upTo(client: Client, cursor: string): Promise<ClaudeResponse[]> {
  const taken: ClaudeResponse[] = [];
  while (taken.at(-1)?.seq !== cursor) taken.push(...responses([await client.next()]));
  return taken;
}

test('a frame of an event is the event as in SSE, under its own name and cursor', limit, async () => {
  const { app, port, engine, sockets } = await socketApp();
  engine.reading = follow;
  const client = await openSocket(port);
  client.send({ type: 'resume', session_id: 'conv-1' });
  const all = await upTo(client, '10.0');
  const expected = [...itemsAfter({ seq: 0, chars: 0 })].map(({ cursor, event: { type, ...event } }) => ({
    ...event,
    type: 'claude_response',
    event_type: type,
    session_id: 'conv-1',
    seq: formatCursor(cursor),
  }));
  assert.deepEqual(all, expected);
  sockets.terminate();
  await app.close();
});

test(
  'a socket that dropped goes on after every cursor it was given: nothing twice, nothing missing',
  limit,
  async () => {
    const { app, port, engine, sockets } = await socketApp();
    engine.reading = follow;
    const first = await openSocket(port);
    first.send({ type: 'resume', session_id: 'conv-1', after: null });
    const all = await upTo(first, '10.0');
    assert.ok(all.length > 20);
    for (const [index, { seq }] of all.entries()) {
      const client = await openSocket(port);
      client.send({ type: 'resume', session_id: 'conv-1' });
      const before = await upTo(client, seq);
      client.socket.terminate();
      const again = await openSocket(port);
      again.send({ type: 'resume', session_id: 'conv-1', after: seq });
      const rest = index === all.length - 1 ? responses(await again.ping()) : await upTo(again, '10.0');
      assert.deepEqual([...before, ...rest], all, seq);
      again.socket.terminate();
    }
    first.socket.close();
    await eventually(() => sockets.size === 0 && engine.open === 0);
    assert.equal(engine.interrupted.signal.aborted, false, 'no drop stops anything');
    await app.close();
  },
);

test('following again on the same socket goes on from the new place only', limit, async () => {
  const { app, port, engine, sockets } = await socketApp();
  engine.reading = follow;
  const client = await openSocket(port);
  for (const after of ['9.0', '4.0', '1.3']) client.send({ type: 'resume', session_id: 'conv-1', after });
  const cursor = parseCursor('1.3');
  assert.ok(cursor);
  const expected = [...itemsAfter(cursor)].map((item) => formatCursor(item.cursor));
  await eventually(() => client.frames.length >= expected.length && responses(client.frames).at(-1)?.seq === '10.0');
  assert.deepEqual(
    responses(client.frames)
      .slice(-expected.length)
      .map(({ seq }) => seq),
    expected,
  );
  assert.equal(engine.open, 1);
  sockets.terminate();
  await app.close();
});

test('a cursor that is none is refused, and what was followed goes on', limit, async () => {
  const { app, port, engine, sockets } = await socketApp();
  engine.reading = follow;
  const client = await openSocket(port);
  client.send({ type: 'resume', session_id: 'conv-1', after: '10.0' });
  assert.deepEqual(await client.ping(), []);
  for (const after of ['', 'x', '1', '-1.0', '01.0', '1.0, 2.0']) {
    client.send({ type: 'resume', session_id: 'conv-1', after });
    const error = await client.next();
    assert.ok(error.type === 'error' && error.code === 'bad_cursor' && error.session_id === 'conv-1', after);
  }
  assert.deepEqual([engine.open, engine.asked.length], [1, 1]);
  sockets.terminate();
  await app.close();
});

test('a turn of this socket is told without its own message, and then what others do', limit, async () => {
  const { app, port, engine, sockets } = await socketApp();
  const said = (seq: number, text: string): StreamItem => {
    const item = new StreamProjector({ seq: seq - 1, chars: 0 }).log({
      seq,
      turn: 'turn-2',
      at: 0,
      body: { type: 'user_message', text, message_uuid: 'u' },
    });
    assert.ok(item);
    return item;
  };
  const steps = Array.from({ length: 2 }, () => Promise.withResolvers<void>());
  engine.reading = async function* reading({ signal }) {
    await steps[0]?.promise;
    yield said(3, 'mine');
    yield resultItem(4, outcomeOf());
    await steps[1]?.promise;
    yield said(5, 'theirs');
    yield resultItem(6, outcomeOf());
    await aborted(signal);
  };
  const client = await openSocket(port);
  client.send({ type: 'start_conversation', prompt: 'first' });
  const seen = async (cursor: string) => (await upTo(client, cursor)).map(({ event_type }) => event_type);
  assert.deepEqual(await client.next(), { type: 'conversation_started', session_id: 'conv-1' });
  assert.deepEqual(await seen('2.0'), ['text_delta', 'result']);
  await eventually(() => engine.asked.at(-1)?.what === 'events');
  const asked = engine.asked.at(-1)?.rest[0] as Reading | undefined;
  assert.deepEqual(asked?.after, { seq: 2, chars: 0 });
  engine.refusal = new SallyportError('conversation_busy');
  client.send({ type: 'send_message', message: 'theirs' }); // one that was refused is nobody's echo
  assert.equal((await client.next()).type, 'error');
  engine.refusal = null;
  client.send({ type: 'send_message', message: 'mine' });
  assert.deepEqual(await client.ping(), []);
  steps[0]?.resolve();
  assert.deepEqual(await seen('4.0'), ['result']);
  steps[1]?.resolve();
  assert.deepEqual(await seen('6.0'), ['user_message', 'result']);
  sockets.terminate();
  await app.close();
});

test('two sockets of one label live side by side and have no power over each other', limit, async () => {
  const { app, port, engine, sockets } = await socketApp();
  engine.reading = follow;
  const clients = [await openSocket(port, '/ws/same'), await openSocket(port, '/api/claude/ws/same')] as const;
  clients[0].send({ type: 'resume', session_id: 'conv-1' });
  const all = await upTo(clients[0], '10.0');
  assert.deepEqual(await clients[1].ping(), []);
  clients[1].send({ type: 'interrupt' });
  const error = await clients[1].next();
  assert.ok(error.type === 'error' && error.code === 'conversation_not_found', 'the other one has no conversation');
  clients[1].send({ type: 'resume', session_id: 'conv-1' });
  assert.deepEqual(await upTo(clients[1], '10.0'), all);
  clients[1].socket.terminate();
  await eventually(() => sockets.size === 1);
  assert.deepEqual(await clients[0].ping(), []);
  sockets.terminate();
  await app.close();
});
