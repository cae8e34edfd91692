import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SallyportError } from '../engine/errors.ts';
import { aborted, outcomeOf, resultItem, textItem, type Reading } from './engine-support.ts';
import { maxFollowed } from './socket-followers.ts';
import { openSocket, socketApp } from './socket-support.ts';
import { eventually } from './testing.ts';

const limit = { timeout: 30_000 };

test('the end of a conversation is told once, however it comes', limit, async () => {
  const { app, port, engine, sockets } = await socketApp();
  const client = await openSocket(port);
  const ends: (() => void)[] = [];
  engine.reading = async function* reading() {
    yield textItem(1, 'hello');
    await new Promise<void>((resolve) => ends.push(resolve));
    if (ends.length === 2) throw new SallyportError('conversation_not_found');
  };
  const ended = { type: 'conversation_ended', session_id: 'conv-1' };
  for (const end of ['by itself', 'by being deleted elsewhere'] as const) {
    client.send({ type: 'resume', session_id: 'conv-1' });
    await client.until('claude_response');
    await eventually(() => ends.length === (end === 'by itself' ? 1 : 2));
    ends.at(-1)?.();
    assert.deepEqual(await client.next(), ended, end);
    client.send({ type: 'interrupt' });
    assert.equal((await client.next()).type, 'error', 'it is not the conversation of the socket any more');
  }
  client.send({ type: 'resume', session_id: 'conv-1' });
  await client.until('claude_response');
  client.send({ type: 'end_conversation' });
  assert.deepEqual(await client.next(), ended);
  assert.deepEqual(engine.asked.at(-1), { ...engine.asked.at(-1), what: 'delete', id: 'conv-1' });
  ends.at(-1)?.();
  client.send({ type: 'end_conversation', session_id: 'conv-9' });
  assert.deepEqual(await client.ping(), [{ type: 'conversation_ended', session_id: 'conv-9' }]);
  sockets.terminate();
  await app.close();
});

test('following that breaks off is an error about its conversation, and the socket lives', limit, async () => {
  const { app, port, engine, sockets, log } = await socketApp();
  const client = await openSocket(port);
  engine.reading = async function* reading() {
    yield textItem(1, 'half');
    throw new Error('canary');
  };
  client.send({ type: 'resume', session_id: 'conv-1' });
  const [, error] = [await client.next(), await client.next()];
  assert.ok(error?.type === 'error' && error.code === 'internal' && error.session_id === 'conv-1');
  assert.doesNotMatch(JSON.stringify(error), /canary/u);
  assert.ok(log.some((line) => JSON.stringify(line).includes('canary')));
  assert.deepEqual(await client.ping(), []);
  await eventually(() => engine.open === 0);
  sockets.terminate();
  await app.close();
});

test(
  'a socket follows so many conversations: a new one takes the place of an idle one, but never of a busy one',
  limit,
  async () => {
    const { app, port, engine, sockets } = await socketApp();
    const finish = new Map<string, () => void>();
    engine.reading = async function* reading({ signal }) {
      const id = engine.asked.at(-1)?.id ?? '';
      yield textItem(1, 'hello');
      await new Promise<void>((resolve) => {
        finish.set(id, resolve);
        signal.addEventListener('abort', () => resolve(), { once: true });
      });
      yield resultItem(2, outcomeOf());
      await aborted(signal);
    };
    const client = await openSocket(port);
    for (let n = 0; n < maxFollowed; n += 1) {
      client.send({ type: 'resume', session_id: `conv-${n}` });
      await client.until('claude_response');
    }
    const refused: object[] = [
      { type: 'resume', session_id: 'one-more' },
      { type: 'start_conversation', prompt: 'x' },
      { type: 'send_message', message: 'x', session_id: 'one-more' },
    ];
    for (const frame of refused) {
      client.send(frame);
      const error = await client.next();
      assert.ok(error.type === 'error' && error.code === 'overloaded');
    }
    assert.ok(
      engine.asked.every(({ what }) => what === 'events'),
      'nothing was started',
    );
    client.send({ type: 'resume', session_id: 'conv-3' }); // one that is followed needs no place
    await client.until('claude_response');
    finish.get('conv-5')?.();
    await client.until('claude_response');
    client.send({ type: 'resume', session_id: 'one-more' });
    await client.until('claude_response');
    await eventually(() => engine.open === maxFollowed);
    const followed = engine.asked.filter(({ rest }) => !(rest[0] as Reading).signal.aborted).map(({ id }) => id);
    assert.equal(followed.length, maxFollowed);
    assert.ok(!followed.includes('conv-5') && followed.includes('one-more') && followed.includes('conv-3'));
    sockets.terminate();
    await eventually(() => engine.open === 0);
    await app.close();
  },
);

test('a service that closes says where to go on in each conversation, and closes with 1001', limit, async () => {
  const { app, port, engine, sockets } = await socketApp();
  engine.reading = async function* reading({ signal }) {
    if (engine.asked.at(-1)?.id !== 'silent') yield* [textItem(3, 'abc'), textItem(3, 'abcd')];
    await aborted(signal);
  };
  const client = await openSocket(port);
  const bystander = await openSocket(port);
  for (const frame of [{ session_id: 'conv-1' }, { session_id: 'silent', after: '7.2' }, { session_id: 'conv-2' }]) {
    client.send({ type: 'resume', ...frame });
  }
  await client.ping();
  await eventually(() => engine.open === 3 && engine.taken === 4);
  const closed = app.close();
  sockets.goAway();
  const [last] = (await client.until('going_away')).slice(-1);
  assert.deepEqual(last, { type: 'going_away', cursors: { 'conv-1': '3.4', silent: '7.2', 'conv-2': '3.4' } });
  assert.deepEqual(await bystander.next(), { type: 'going_away', cursors: {} });
  assert.deepEqual([(await client.closed).code, (await bystander.closed).code], [1001, 1001]);
  await eventually(() => sockets.size === 0 && engine.open === 0);
  await closed;
  assert.equal(engine.interrupted.signal.aborted, false);
});
