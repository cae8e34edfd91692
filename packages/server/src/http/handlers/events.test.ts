import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { streamEvent } from '@sallyport/protocol';
import { SallyportError } from '../../engine/errors.ts';
import { closeApp } from '../close.ts';
import { aborted, outcomeOf, resultItem, textItem, type Reading } from '../engine-support.ts';
import { bearer, eventually, exchange, listen, secretOf, testApp } from '../testing.ts';

const limit = { timeout: 20_000 };
const url = '/api/claude/conversation/conv-1/events';
const events = { url, headers: bearer('viewer') };

/** Says `hello` and then follows a conversation in which nothing happens. */
async function* following({ signal }: Reading) {
  yield textItem(1, 'hello');
  await aborted(signal);
}

const follow = (port: number, signal: AbortSignal) =>
  fetch(`http://127.0.0.1:${port}${url}`, { headers: bearer('viewer'), signal });

test('the events of a conversation are streamed under their cursors to its end, past the ends of turns', async () => {
  const { app, engine } = await testApp();
  engine.reading = async function* reading() {
    yield textItem(1, 'hello');
    yield resultItem(2, outcomeOf());
    yield textItem(3, 'you');
    yield resultItem(4, outcomeOf());
  };
  const answer = await app.inject(events);
  assert.equal(answer.statusCode, 200);
  assert.equal(answer.headers['content-type'], 'text/event-stream');
  assert.equal(answer.headers['cache-control'], 'no-cache');
  assert.equal(answer.headers['x-accel-buffering'], 'no');
  const frames = answer.body.split('\n\n');
  assert.deepEqual(frames.splice(-2), ['data: [DONE]', '']);
  assert.equal(frames.shift(), ': keep-alive');
  assert.deepEqual(
    frames.map((frame) => /^id: (\S+)\ndata: [^\n]*$/.exec(frame)?.[1]),
    ['1.5', '2.0', '3.3', '4.0'],
  );
  assert.equal(engine.open, 0);
  await app.close();
});

test('reading begins after the cursor; the header counts over the query', async () => {
  const { app, engine } = await testApp();
  for (const [query, header, after, follows] of [
    ['', undefined, { seq: 0, chars: 0 }, true],
    ['?follow=true&after=3.7', undefined, { seq: 3, chars: 7 }, true],
    ['?after=3.7', '4.0', { seq: 4, chars: 0 }, true],
    ['?after=nonsense&follow=false', '12.3', { seq: 12, chars: 3 }, false],
  ] as const) {
    const headers = { ...events.headers, ...(header && { 'last-event-id': header }) };
    const answer = await app.inject({ url: `${url}${query}`, headers });
    assert.equal(answer.statusCode, 200);
    assert.match(answer.body, /data: \[DONE\]\n\n$/);
    const asked = engine.asked.at(-1)?.rest[0] as Reading;
    assert.deepEqual([asked.after, asked.follow], [after, follows]);
  }
  await app.close();
});

test('a cursor that is none is refused before the conversation is looked at', async () => {
  const { app, engine } = await testApp();
  for (const cursor of ['', 'x', '1', '1.', '-1.0', '01.0', '1.0.0', '1e3.0', `${'9'.repeat(40)}.0`, '1.0, 2.0']) {
    for (const request of [
      { url: `${url}?after=${encodeURIComponent(cursor)}`, headers: events.headers },
      { url, headers: { ...events.headers, 'last-event-id': cursor } },
    ]) {
      const answer = await app.inject(request);
      assert.equal(answer.statusCode, 400, cursor);
      assert.equal(answer.json<{ code: string }>().code, 'bad_cursor');
    }
  }
  assert.equal(engine.asked.length, 0);
  await app.close();
});

test('what the engine refuses is answered with its own status', async () => {
  const { app, engine } = await testApp();
  for (const code of ['conversation_not_found', 'bad_cursor', 'gone'] as const) {
    const refusal = new SallyportError(code);
    engine.refusal = refusal;
    const answer = await app.inject(events);
    assert.equal(answer.statusCode, refusal.status);
    assert.equal(answer.json<{ code: string }>().code, code);
    await eventually(() => app.appState.readers.size === 0);
  }
  await app.close();
});

test('a HEAD request is answered without reading anything', async () => {
  const { app, engine } = await testApp();
  const head = { ...events, method: 'HEAD' } as const;
  const answer = await app.inject(head);
  assert.equal(answer.statusCode, 200);
  assert.equal(answer.headers['content-type'], 'text/event-stream');
  assert.deepEqual([engine.asked.map(({ what }) => what), app.appState.readers.size], [['info'], 0]);
  engine.refusal = new SallyportError('conversation_not_found');
  assert.equal((await app.inject(head)).statusCode, 404);
  await app.close();
});

test('reading that breaks off ends with an error under no cursor, and without the closing line', async () => {
  const { app, engine, log } = await testApp();
  for (const [thrown, text] of [
    [new Error('canary'), /Something went wrong/],
    [new SallyportError('conversation_not_found'), /no such conversation/],
  ] as const) {
    engine.reading = async function* reading() {
      yield textItem(1, 'half');
      throw thrown;
    };
    const { body } = await app.inject(events);
    const frames = body.split('\n\n').filter((frame) => frame !== '');
    assert.equal(frames.length, 3);
    const last = streamEvent.parse(JSON.parse(frames[2]?.replace(/^data: /, '') ?? ''));
    assert.equal(last.is_complete, true);
    assert.match(String(last.error), text);
    assert.doesNotMatch(body, /canary|DONE/);
    assert.equal(engine.open, 0);
  }
  assert.equal(log.filter(({ msg }) => msg === 'a stream broke off').length, 1);
  await app.close();
});

test('an idle conversation is answered at once and kept alive by comments', limit, async () => {
  const { app, engine } = await testApp({ heartbeatMs: 50 });
  const port = await listen(app);
  engine.reading = async function* silence({ signal }) {
    await aborted(signal);
    yield* [];
  };
  const leave = new AbortController();
  const answer = await follow(port, leave.signal);
  assert.equal(answer.status, 200);
  const reader = answer.body?.getReader();
  let text = '';
  while (text.length < 50) text += new TextDecoder().decode((await reader?.read())?.value);
  assert.match(text, /^(: keep-alive\n\n)+$/);
  leave.abort();
  await eventually(() => engine.open === 0 && app.appState.readers.size === 0);
  await app.close();
});

test('readers end at once when the service closes, without the closing line', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  engine.reading = following;
  const answer = await follow(port, new AbortController().signal);
  await eventually(() => engine.taken === 1);
  const closed = closeApp(app, 3_600_000);
  assert.doesNotMatch(await answer.text(), /DONE|error":"/);
  await closed;
  assert.equal(engine.open, 0);
});

test('a hundred readers that leave abruptly leave nothing behind and stop nothing', limit, async () => {
  const { app, engine } = await testApp({ heartbeatMs: 3_600_000 }); // a timer that is left would outlive the test
  const port = await listen(app);
  engine.reading = following;
  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
  const listeners = () => app.server.eventNames().reduce((sum, name) => sum + app.server.listenerCount(name), 0);
  const head = `GET ${url} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${secretOf('user')}\r\n\r\n`;
  const signals: AbortSignal[] = [];
  const visit = async (count: number) => {
    const sockets = Array.from({ length: count }, () => {
      const socket = connect(port, '127.0.0.1');
      socket.write(head);
      return socket;
    });
    await eventually(() => engine.open === count && app.appState.readers.size === count);
    for (const socket of sockets) socket.resetAndDestroy();
    await eventually(() => engine.open === 0 && app.appState.readers.size === 0);
    signals.push(...engine.asked.splice(0).map(({ rest }) => (rest[0] as Reading).signal));
  };
  await visit(1);
  const before = { timers: timers(), listeners: listeners() };
  for (let round = 0; round < 2; round += 1) await visit(50);
  await eventually(() => timers() <= before.timers);
  assert.equal(listeners(), before.listeners);
  assert.equal(signals.length, 101);
  assert.ok(signals.every(({ aborted: left }) => left));
  assert.equal(engine.interrupted.signal.aborted, false);
  await app.close();
});

/** The body of an answer, whose chunks must be whole. */
function bodyOf(answer: string): string {
  const begin = answer.indexOf('\r\n\r\n') + 4;
  let rest = answer.slice(begin);
  if (!/^transfer-encoding: chunked/im.test(answer.slice(0, begin))) return rest;
  for (let body = ''; ;) {
    const [, line = '', size = ''] = /^(([0-9a-f]+)\r\n)/.exec(rest) ?? assert.fail(`no chunk: ${rest}`);
    const end = line.length + Number.parseInt(size, 16);
    assert.equal(rest.slice(end, end + 2), '\r\n');
    if (end === line.length) return body;
    body += rest.slice(line.length, end);
    rest = rest.slice(end + 2);
  }
}

test('a stream is the same events over HTTP/1.1, over HTTP/1.0 and behind another answer', limit, async () => {
  const { app } = await testApp();
  const port = await listen(app);
  const asked = (version: string, close = '') =>
    `GET ${url} HTTP/${version}\r\nHost: localhost\r\nAuthorization: Bearer ${secretOf('user')}\r\n${close}\r\n`;
  const last = asked('1.1', 'Connection: close\r\n');
  const alone = await exchange(port, last);
  assert.match(alone, /^transfer-encoding: chunked/im);
  const events = bodyOf(alone);
  assert.match(events, /^: keep-alive\n\nid: 1\.5\n[^]*data: \[DONE\]\n\n$/);
  const old = await exchange(port, asked('1.0'));
  assert.doesNotMatch(old, /^transfer-encoding/im);
  assert.equal(bodyOf(old), events);
  const both = await exchange(port, asked('1.1') + last);
  assert.deepEqual(both.split(/(?=HTTP\/1\.1 200)/).map(bodyOf), [events, events]);
  await app.close();
});
