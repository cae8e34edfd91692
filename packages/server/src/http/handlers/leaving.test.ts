import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { aborted, outcomeOf, resultItem, textItem, waitingPlay, type Play } from '../engine-support.ts';
import { bearer, eventually, listen, postQuery, queryBody, secretOf, testApp } from '../testing.ts';

const limit = { timeout: 20_000 };
const rawStream = `POST /api/claude/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${secretOf('user')}\r\nContent-Type: application/json\r\nContent-Length: ${queryBody.length}\r\n\r\n${queryBody}`;

/** Says nothing until it is stopped. */
const silentPlay: Play = {
  async *items({ signal }) {
    await aborted(signal);
    yield resultItem(1, outcomeOf({ success: false, stop_reason: 'interrupted' }));
  },
  ended: waitingPlay.ended,
};

test(
  'a client that leaves stops its run, before and after the first event, and nothing is left of it',
  limit,
  async () => {
    const { app, engine } = await testApp();
    const port = await listen(app);
    for (const [play, path] of [
      [waitingPlay, '/api/claude/stream'],
      [silentPlay, '/api/claude/stream'],
      [silentPlay, '/api/claude/query'],
    ] as const) {
      engine.play = play;
      engine.calls.length = 0;
      const leave = new AbortController();
      const answer = postQuery(port, path, leave.signal).catch(() => null);
      await eventually(() => engine.calls.length === 1);
      if (play === waitingPlay) await answer;
      assert.equal(engine.calls[0]?.context.signal.aborted, false);
      leave.abort();
      await eventually(() => engine.calls[0]?.context.signal.aborted === true);
      await eventually(() => engine.open === 0 && app.appState.runs.size === 0);
    }
    await app.close();
  },
);

test('a run whose answer was read to its end is not stopped', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  for (const path of ['/api/claude/stream', '/api/claude/query']) await (await postQuery(port, path)).text();
  await eventually(() => app.appState.runs.size === 0);
  for (const { context } of engine.calls) assert.equal(context.signal.aborted, false);
  await app.close();
});

test('an injected stream whose response is destroyed stops its run', limit, async () => {
  const { app, engine } = await testApp();
  engine.play = waitingPlay;
  const answer = await app.inject({
    method: 'POST',
    url: '/api/claude/stream',
    headers: { ...bearer('user'), 'content-type': 'application/json' },
    payload: queryBody,
    payloadAsStream: true,
  });
  answer
    .stream()
    .on('error', () => undefined)
    .resume();
  answer.raw.res.destroy();
  await eventually(() => engine.calls[0]?.context.signal.aborted === true && engine.open === 0);
  await app.close();
});

const endless: Play = {
  async *items({ signal }) {
    const text = 'x'.repeat(20_000);
    for (let seq = 1; !signal.aborted; seq += 1) {
      yield textItem(seq, text);
      await new Promise((resolve) => setImmediate(resolve));
    }
    yield resultItem(1_000_000, outcomeOf());
  },
  ended: waitingPlay.ended,
};

test('a client that does not read holds a bounded part of the run, and stops it when it leaves', limit, async () => {
  const { app, engine } = await testApp();
  const port = await listen(app);
  engine.play = endless;
  const socket = connect(port, '127.0.0.1');
  socket.pause();
  socket.write(rawStream);
  let seen = -1;
  while (seen !== engine.taken || seen === 0) {
    seen = engine.taken;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  assert.ok(engine.taken * 20_000 < 30_000_000, `${engine.taken} events were taken`);
  socket.destroy();
  await eventually(() => engine.open === 0);
  await app.close();
});

test('a client that reads nothing for long is cut', limit, async () => {
  const { app, engine } = await testApp({ heartbeatMs: 50 });
  const port = await listen(app);
  engine.play = endless;
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  socket.pause();
  socket.write(rawStream);
  await eventually(() => engine.taken > 0);
  await eventually(() => engine.open === 0);
  assert.equal(engine.calls[0]?.context.signal.aborted, true);
  socket.destroy();
  await app.close();
});

test('two hundred clients that leave abruptly leave nothing behind', limit, async () => {
  const { app, engine } = await testApp({ heartbeatMs: 3_600_000 }); // a timer that is left would outlive the test
  const port = await listen(app);
  engine.play = waitingPlay;
  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
  const listeners = () => app.server.eventNames().reduce((sum, name) => sum + app.server.listenerCount(name), 0);
  const visit = async (count: number) => {
    const sockets = Array.from({ length: count }, () =>
      connect(port, '127.0.0.1', function sent(this: { write(text: string): void }) {
        this.write(rawStream);
      }),
    );
    const asked = engine.calls.length + count;
    await eventually(() => engine.open === count && engine.calls.length === asked);
    for (const socket of sockets) socket.resetAndDestroy();
    await eventually(() => engine.open === 0 && app.appState.runs.size === 0);
  };
  await visit(1);
  const before = { timers: timers(), listeners: listeners() };
  for (let round = 0; round < 4; round += 1) await visit(50);
  await eventually(() => timers() <= before.timers);
  assert.equal(listeners(), before.listeners);
  assert.ok(engine.calls.every(({ context }) => context.signal.aborted));
  await app.close();
});
