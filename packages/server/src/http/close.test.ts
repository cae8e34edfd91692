import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { closeApp } from './close.ts';
import { waitingPlay } from './engine-support.ts';
import { bearer, eventually, listen, postQuery, testApp } from './testing.ts';

const limit = { timeout: 20_000 };

test('closing does not wait for connections that are merely kept', limit, async () => {
  const { app } = await testApp();
  const port = await listen(app);
  await (await fetch(`http://127.0.0.1:${port}/health`)).text();
  await closeApp(app, 3_600_000);
  await assert.rejects(fetch(`http://127.0.0.1:${port}/health`));
});

test('an answer that ends by itself is delivered whole', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  const { promise, resolve } = Promise.withResolvers<void>();
  const { play } = engine;
  engine.play = {
    async *items(context) {
      for await (const item of play.items(context)) {
        yield item;
        await promise;
      }
    },
    ended: play.ended,
  };
  const answer = await postQuery(port, '/api/claude/stream');
  const closed = closeApp(app, 3_600_000);
  await eventually(() => !app.server.listening);
  resolve();
  assert.match(await answer.text(), /"is_complete":true[^]*data: \[DONE\]\n\n$/);
  await closed;
  assert.equal(engine.calls[0]?.context.signal.aborted, false);
});

test(
  'runs that are left shortly before the deadline are stopped and their answers end with what there is',
  limit,
  async () => {
    const { app, engine } = await testApp();
    const port = await listen(app);
    engine.play = waitingPlay;
    const answers = [postQuery(port, '/api/claude/stream'), postQuery(port, '/api/claude/query')] as const;
    await eventually(() => app.appState.runs.size === 2);
    await answers[0];
    const closed = closeApp(app, 1000);
    const [stream, query] = await Promise.all(answers);
    assert.match(await stream.text(), /"stop_reason":"interrupted"[^]*data: \[DONE\]\n\n$/);
    assert.equal(((await query.json()) as { stop_reason: string }).stop_reason, 'interrupted');
    await closed;
  },
);

test('a run that does not end is cut at the deadline', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  engine.play = { ...waitingPlay, ended: () => new Promise(() => undefined) };
  const answer = postQuery(port, '/api/claude/query').catch((error: unknown) => error);
  await eventually(() => app.appState.runs.size === 1);
  await closeApp(app, 200);
  assert.ok((await answer) instanceof Error);
});

test('while it closes new requests are told so and probes still answer', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  engine.play = waitingPlay;
  const running = await postQuery(port, '/api/claude/stream');
  const sockets: Socket[] = [];
  app.server.on('connection', (socket) => sockets.push(socket));
  const kept = connect(port, '127.0.0.1');
  let received = '';
  kept.setEncoding('utf8').on('data', (text: string) => (received += text));
  // The first request is not complete when closing begins, so its connection is not idle.
  kept.write('GET /readyz HTTP/1.1\r\nHost: localhost\r\n');
  await eventually(() => (sockets.at(-1)?.bytesRead ?? 0) > 0);
  const closed = closeApp(app, 2000);
  kept.write('\r\n');
  await eventually(() => received.includes('draining'));
  assert.match(received, /^HTTP\/1\.1 503 [^]*x-request-id/);
  const answer = await app.inject({ url: '/api/claude/models', headers: bearer('user') }).catch(() => null);
  assert.equal(answer, null, 'an app that closes takes no injected request');
  await running.text();
  await closed;
});

test('a request on a kept connection is refused with not_ready while the app closes', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  engine.play = waitingPlay;
  const running = await postQuery(port, '/api/claude/stream');
  const sockets: Socket[] = [];
  app.server.on('connection', (socket) => sockets.push(socket));
  const kept = connect(port, '127.0.0.1');
  let received = '';
  kept.setEncoding('utf8').on('data', (text: string) => (received += text));
  kept.write('GET /api/claude/models HTTP/1.1\r\nHost: localhost\r\n');
  await eventually(() => (sockets.at(-1)?.bytesRead ?? 0) > 0);
  const closed = closeApp(app, 2000);
  kept.write('\r\n');
  await eventually(() => received.includes('not_ready'));
  assert.match(received, /^HTTP\/1\.1 503 [^]*connection: close[^]*x-request-id: /i);
  assert.equal(engine.modelCalls, 0);
  await running.text();
  await closed;
});
