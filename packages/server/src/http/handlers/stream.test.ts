import assert from 'node:assert/strict';
import { test } from 'node:test';
import { streamEvent, type StreamEvent } from '@sallyport/protocol';
import { SallyportError } from '../../engine/errors.ts';
import { failingPlay, outcomeOf, resultItem, retryItem, textItem, waitingPlay, type Play } from '../engine-support.ts';
import { bearer, eventually, listen, postQuery, testApp } from '../testing.ts';

const payload = { prompt: 'x' };
const stream = { method: 'POST', url: '/api/claude/stream', headers: bearer('user'), payload } as const;
const limit = { timeout: 20_000 };

/** The data of each event of a stream; the closing line as it is. */
function dataOf(text: string): string[] {
  return [...text.matchAll(/^data: (.*)$/gm)].map(([, data = '']) => data);
}

function lastEvent(text: string): StreamEvent {
  const data = dataOf(text);
  assert.equal(data.at(-1), '[DONE]');
  return streamEvent.parse(JSON.parse(data.at(-2) ?? ''));
}

test('a run is streamed as events with cursors, and ends with its result and the closing line', async () => {
  const { app, engine } = await testApp();
  const answer = await app.inject(stream);
  assert.equal(answer.statusCode, 200);
  assert.equal(answer.headers['content-type'], 'text/event-stream');
  assert.equal(answer.headers['cache-control'], 'no-cache');
  assert.equal(answer.headers['x-accel-buffering'], 'no');
  assert.equal(answer.headers['content-length'], undefined);
  assert.equal(answer.headers['content-encoding'], undefined);
  assert.match(answer.body, /^id: 1\.5\ndata: \{[^\n]*\}\n\nid: 2\.0\ndata: \{[^\n]*\}\n\ndata: \[DONE\]\n\n$/);
  const events = dataOf(answer.body)
    .slice(0, -1)
    .map((data) => streamEvent.parse(JSON.parse(data)));
  assert.deepEqual(
    events.map(({ type, is_complete }) => [type, is_complete]),
    [
      ['text_delta', false],
      ['result', true],
    ],
  );
  assert.equal(engine.open, 0);
  await app.close();
});

test('what fails before there is anything to say is answered with its own status', async () => {
  const { app, engine } = await testApp();
  const error = new SallyportError('upstream_overloaded', { retryAfter: 4 });
  for (const before of [[], [retryItem(1), retryItem(2)]]) {
    engine.play = failingPlay(error, before);
    const answer = await app.inject(stream);
    assert.equal(answer.statusCode, 503);
    assert.equal(answer.headers['content-type'], 'application/json; charset=utf-8');
    assert.equal(answer.headers['retry-after'], '4');
    assert.equal(answer.json<{ code: string }>().code, 'upstream_overloaded');
  }
  engine.refusal = new SallyportError('path_not_allowed');
  assert.equal((await app.inject(stream)).statusCode, 403);
  assert.equal(engine.open, 0);
  await app.close();
});

test('what fails later is an event with an error that completes the stream', async () => {
  const { app, engine } = await testApp();
  engine.play = failingPlay(new SallyportError('agent_crashed'), [retryItem(1), textItem(2, 'half')]);
  const answer = await app.inject(stream);
  assert.equal(answer.statusCode, 200);
  assert.deepEqual(dataOf(answer.body).length, 4);
  const last = lastEvent(answer.body);
  assert.equal(last.is_complete, true);
  assert.match(String(last.error), /ended unexpectedly/);
  await app.close();
});

test('a run that was cut is a stream with a result, not an error', async () => {
  const { app, engine, log } = await testApp();
  const outcome = outcomeOf({ success: false, stop_reason: 'timeout', error: 'cut' });
  engine.play = {
    async *items() {
      yield resultItem(1, outcome);
    },
    ended: async () => outcome,
  };
  const answer = await app.inject(stream);
  assert.equal(answer.statusCode, 200);
  assert.equal(lastEvent(answer.body).error, 'cut');
  assert.doesNotMatch(JSON.stringify(log), /broke off/);
  await app.close();
});

test('a silent run gets its head and comments, and its late failure is an event', limit, async () => {
  const { app, engine } = await testApp({ heartbeatMs: 50 });
  const port = await listen(app);
  const { promise, resolve } = Promise.withResolvers<void>();
  const failing = failingPlay(new SallyportError('upstream_timeout'));
  engine.play = {
    async *items(context) {
      await promise;
      yield* failing.items(context);
    },
    ended: (context) => promise.then(() => failing.ended(context)),
  };
  const answer = await postQuery(port, stream.url);
  assert.equal(answer.status, 200);
  const reader = answer.body?.getReader();
  const decoder = new TextDecoder();
  let text = '';
  while (text.split(': keep-alive\n\n').length < 4) text += decoder.decode((await reader?.read())?.value);
  resolve();
  for (;;) {
    const part = await reader?.read();
    if (!part || part.done) break;
    text += decoder.decode(part.value);
  }
  assert.match(text, /^(: keep-alive\n\n)+data|id: /);
  assert.equal(lastEvent(text).is_complete, true);
  await app.close();
});

test('retries that keep coming do not keep the head back', limit, async () => {
  const { app, engine } = await testApp({ heartbeatMs: 50 });
  const port = await listen(app);
  engine.play = {
    async *items({ signal }) {
      for (let seq = 1; !signal.aborted; seq += 1) {
        yield retryItem(seq);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    },
    ended: waitingPlay.ended,
  };
  const leave = new AbortController();
  assert.equal((await postQuery(port, stream.url, leave.signal)).status, 200);
  leave.abort();
  await eventually(() => engine.open === 0);
  await app.close();
});

test('a stream that breaks off on our side ends with an error, stops its run and tells nothing', async () => {
  const { app, engine, log } = await testApp();
  const ended: Play['ended'] = waitingPlay.ended;
  engine.play = {
    async *items() {
      yield textItem(1, 'half');
      throw new Error('canary');
    },
    ended,
  };
  const broken = await app.inject(stream);
  const last = lastEvent(broken.body);
  assert.deepEqual([last.type, last.is_complete], ['result', true]);
  assert.match(String(last.error), /Something went wrong/);
  assert.doesNotMatch(broken.body, /canary/);
  assert.match(JSON.stringify(log), /canary/);
  assert.equal(engine.calls[0]?.context.signal.aborted, true);

  engine.play = {
    async *items() {
      yield textItem(1, 'half');
    },
    ended,
  };
  assert.match(String(lastEvent((await app.inject(stream)).body).error), /Something went wrong/);

  engine.play = {
    async *items() {
      await Promise.reject(new Error('canary'));
      yield textItem(1, 'never');
    },
    ended,
  };
  const early = await app.inject(stream);
  assert.equal(early.statusCode, 500);
  assert.doesNotMatch(early.body, /canary/);
  assert.ok(engine.calls.every(({ context }) => context.signal.aborted));
  assert.equal(engine.open, 0);
  await app.close();
});
