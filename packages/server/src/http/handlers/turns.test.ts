import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultBounds, operations, streamEvent } from '@sallyport/protocol';
import type { FastifyInstance } from 'fastify';
import { SallyportError } from '../../engine/errors.ts';
import { closeApp } from '../close.ts';
import { failingPlay, outcomeOf, resultItem, retryItem, textItem, waitingPlay, type Play } from '../engine-support.ts';
import { approval } from '../samples-support.ts';
import { bearer, eventually, listen, testApp } from '../testing.ts';

const limit = { timeout: 20_000 };
const base = '/api/claude/conversation';
const requests = [
  { what: 'start', url: `${base}/start?session_id=conv-1`, payload: { prompt: 'x' } },
  { what: 'continue', url: `${base}/conv-1/continue`, payload: { session_id: 'conv-1', message: 'x' } },
] as const;
type TurnRequest = (typeof requests)[number];

const inject = (app: FastifyInstance, { url, payload }: TurnRequest, accept: string) =>
  app.inject({ method: 'POST', url, payload, headers: { ...bearer('user'), accept } });

function post(port: number, { url, payload }: TurnRequest, accept: string, signal?: AbortSignal): Promise<Response> {
  return fetch(`http://127.0.0.1:${port}${url}`, {
    method: 'POST',
    headers: { ...bearer('user'), 'content-type': 'application/json', accept },
    body: JSON.stringify(payload),
    ...(signal && { signal }),
  });
}

test('a turn is streamed when the client asks for events, and answered at its end else', async () => {
  const { app } = await testApp();
  for (const request of requests) {
    for (const accept of [
      'text/event-stream',
      'Text/Event-Stream; charset=utf-8',
      'application/json, text/event-stream',
      'text/event-stream;q=0.1',
    ]) {
      const answer = await inject(app, request, accept);
      assert.equal(answer.statusCode, 200);
      assert.equal(answer.headers['content-type'], 'text/event-stream');
      assert.equal(answer.headers['cache-control'], 'no-cache');
      assert.match(String(answer.headers.vary), /\bAccept\b/);
      assert.match(answer.body, /^id: 1\.5\ndata: \{[^\n]*\}\n\nid: 2\.0\ndata: \{[^\n]*\}\n\ndata: \[DONE\]\n\n$/);
    }
    for (const accept of ['*/*', '', 'text/*', 'application/json', 'text/event-stream;q=0', 'text/event-streams']) {
      const answer = await inject(app, request, accept);
      assert.equal(answer.headers['content-type'], 'application/json; charset=utf-8', accept);
      assert.match(String(answer.headers.vary), /\bAccept\b/);
    }
  }
  await app.close();
});

test('a stream that cannot begin is answered with its own status', async () => {
  const { app, engine } = await testApp();
  for (const request of requests) {
    engine.refusal = new SallyportError('conversation_busy');
    const refused = await inject(app, request, 'text/event-stream');
    assert.equal(refused.statusCode, 409);
    assert.equal(refused.json<{ code: string }>().code, 'conversation_busy');
    engine.refusal = null;
    engine.play = failingPlay(new SallyportError('upstream_rate_limited', { retryAfter: 9 }), [retryItem(1)]);
    const failed = await inject(app, request, 'text/event-stream');
    assert.equal(failed.statusCode, 503);
    assert.equal(failed.headers['retry-after'], '9');
    assert.equal(failed.headers['content-type'], 'application/json; charset=utf-8');
  }
  assert.equal(engine.open, 0);
  await app.close();
});

test('a stream that breaks off on our side says so and neither waits for its turn nor stops it', limit, async () => {
  const { app, engine, log } = await testApp();
  for (const fails of [true, false]) {
    engine.play = {
      async *items() {
        yield textItem(1, 'half');
        if (fails) throw new Error('canary');
      },
      ended: waitingPlay.ended,
    };
    const { body } = await inject(app, requests[0], 'text/event-stream');
    const frames = body.split('\n\n').filter((frame) => frame !== '');
    assert.equal(frames.length, 2);
    const last = streamEvent.parse(JSON.parse(frames[1]?.replace(/^data: /, '') ?? ''));
    assert.equal(last.is_complete, true);
    assert.match(String(last.error), /Something went wrong/);
    assert.doesNotMatch(body, /canary/);
  }
  assert.match(JSON.stringify(log), /canary/);
  assert.equal(engine.interrupted.signal.aborted, false);
  assert.equal(engine.open, 0);
  await app.close();
});

test('a client that leaves does not stop the turn, whichever answer it waited for', limit, async () => {
  for (const request of requests) {
    for (const accept of ['application/json', 'text/event-stream']) {
      const { app, engine, log } = await testApp();
      const port = await listen(app);
      const turn = Promise.withResolvers<void>();
      const play: Play = {
        items: waitingPlay.items,
        ended: async () => {
          await turn.promise;
          return outcomeOf({ success: false }, new SallyportError('agent_crashed'));
        },
      };
      engine.play = play;
      const leave = new AbortController();
      const answer = post(port, request, accept, leave.signal).catch(() => null);
      await eventually(() => engine.asked.length === 1);
      if (accept === 'text/event-stream') await answer;
      assert.equal(app.appState.runs.size, 1);
      leave.abort();
      await eventually(() => app.appState.runs.size === 0);
      turn.resolve();
      await new Promise((resolve) => setImmediate(resolve));
      assert.deepEqual(
        engine.asked.map(({ what }) => what),
        [request.what],
      );
      assert.equal(engine.interrupted.signal.aborted, false);
      assert.doesNotMatch(JSON.stringify(log), /request failed|ERR_HTTP_HEADERS_SENT/);
      engine.interrupted.abort();
      await eventually(() => engine.open === 0);
      await app.close();
    }
  }
});

test('a service that closes stops the turns that run, and their answers end with what there is', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  engine.play = waitingPlay;
  const [first, second] = requests;
  const answers = [post(port, first, 'text/event-stream'), post(port, second, '*/*')] as const;
  await eventually(() => app.appState.runs.size === 2);
  await answers[0];
  const closed = closeApp(app, 1000);
  const [stream, json] = await Promise.all(answers);
  assert.match(await stream.text(), /"stop_reason":"interrupted"[^]*data: \[DONE\]\n\n$/);
  assert.equal(((await json.json()) as { stop_reason: string }).stop_reason, 'interrupted');
  await closed;
  assert.ok(
    engine.asked.every(({ what }) => what !== 'interrupt'),
    'the engine stops turns, not the answers',
  );
});

const waiting = {
  session_id: 'conv-1',
  status: 'waiting',
  stop_reason: 'waiting',
  success: false,
  approvals: [approval],
};

test('a turn that waits for a human past its timeout is answered with what it waits for, and goes on', async () => {
  const { app, engine } = await testApp();
  const table = operations(defaultBounds);
  engine.play = { ...waitingPlay, waiting: async () => [approval] };
  for (const [request, { elseStatus }] of [
    [requests[0], table.startConversation],
    [requests[1], table.continueConversation],
  ] as const) {
    const answer = await inject(app, request, 'application/json');
    assert.equal(answer.statusCode, elseStatus.status);
    assert.deepEqual(answer.json(), waiting);
    assert.deepEqual(elseStatus.schema.parse(answer.json()), waiting);
  }
  assert.equal(engine.interrupted.signal.aborted, false);
  await app.close();
});

test('a stream stays open while a human is awaited', limit, async () => {
  const { app, engine } = await testApp();
  const decided = Promise.withResolvers<void>();
  engine.play = {
    async *items() {
      yield textItem(1, 'hello');
      await decided.promise;
      yield resultItem(2, outcomeOf());
    },
    ended: () => decided.promise.then(() => outcomeOf()),
    waiting: async () => [approval],
  };
  const answer = inject(app, requests[0], 'text/event-stream');
  await eventually(() => engine.taken === 1);
  decided.resolve();
  assert.match((await answer).body, /hello[^]*"is_complete":true[^]*\[DONE\]\n\n$/);
  await app.close();
});

/** A turn that says `hello` and waits for a human until the closing service leaves it to its next start. */
function leftPlay(closing: Promise<unknown>): Play {
  const outcome = outcomeOf({ success: false }, new SallyportError('not_ready'));
  return {
    async *items() {
      yield textItem(1, 'hello');
      await closing;
    },
    ended: () => closing.then(() => outcome),
  };
}

test('a turn that a closing service leaves waiting is answered with what it waits for', limit, async () => {
  for (const request of requests) {
    const { app, engine, log } = await testApp();
    const port = await listen(app);
    const closing = Promise.withResolvers<void>();
    engine.play = leftPlay(closing.promise);
    // Those of other conversations, and further pages, are there too.
    engine.pending = [{ ...approval, session_id: 'other' }, approval, { ...approval, session_id: 'third' }];
    const json = post(port, request, 'application/json');
    const stream = await post(port, request, 'text/event-stream');
    await eventually(() => app.appState.runs.size === 2);
    const closed = closeApp(app, 60_000);
    closing.resolve();
    assert.equal((await json).status, 202);
    assert.deepEqual(await (await json).json(), waiting);
    const frames = (await stream.text()).split('\n\n').filter((frame) => frame !== '');
    const last = streamEvent.parse(JSON.parse(frames.at(-1)?.replace(/^data: /, '') ?? ''));
    assert.deepEqual([last.type, last.is_complete], ['status', true]);
    assert.match(String(last.error), /stopping/);
    await closed;
    assert.equal(engine.interrupted.signal.aborted, false);
    assert.ok(log.every(({ level }) => Number(level) < 50));
  }
});

test('a turn that was left without an approval is answered with its error', async () => {
  const { app, engine } = await testApp();
  engine.play = failingPlay(new SallyportError('not_ready'));
  engine.pending = [{ ...approval, session_id: 'other' }];
  const answer = await inject(app, requests[1], 'application/json');
  assert.equal(answer.statusCode, 503);
  assert.equal(answer.json<{ code: string }>().code, 'not_ready');
  await app.close();
});

test('an answer that was given in full interrupts nothing', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  for (const request of requests) {
    for (const accept of ['*/*', 'text/event-stream']) await (await post(port, request, accept)).text();
  }
  await eventually(() => app.appState.runs.size === 0);
  await closeApp(app, 1000);
  assert.equal(engine.interrupted.signal.aborted, false);
});
