import assert from 'node:assert/strict';
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { once } from 'node:events';
import { test } from 'node:test';
import type { Step } from '@sallyport/simulator';
import { call, decide, logAtRest, logOf, pendingIn } from '../support/approvals.ts';
import { processesWith } from '../support/processes.ts';
import { restartable, type Restartable } from '../support/restart.ts';
import { callsWith, eventsIn, scripted, turnState, until } from '../support/runs.ts';
import { userKey } from '../support/service.ts';

type Body = Record<string, any>;

// A stop that waited for this would not end within any test's time.
const patient = { SALLYPORT_DRAIN_SECONDS: '3600' };
const headers = { authorization: `Bearer ${userKey}`, 'content-type': 'application/json' };
const endless: Step = { text: 'word '.repeat(1000), rate: 10 };
const slow: Step = { text: 'A slow but certain answer. '.repeat(3), rate: 10 };

/** Asks the service to stop and gives how it ended. */
async function stopped(service: Restartable): Promise<number | string> {
  const { program } = service;
  program.signal('SIGTERM');
  return await program.exited;
}

/** True once the service takes no more connections or requests. */
async function isStopping(url: string): Promise<boolean> {
  const answer = await fetch(`${url}/readyz`, { headers: { connection: 'close' } }).catch(() => null);
  return answer?.status !== 200;
}

test('a stop does not wait for a human, who decides after the next start', async (context) => {
  const service = await restartable(context, { env: patient });
  const write = { name: 'Write', input: { file_path: '/workspace/a.txt', content: 'a' } };
  const prompt = scripted([{ text: 'May I? ', tools: [write] }, { text: 'Done.' }]);
  const asked = call(service, 'POST', 'conversation/start?session_id=json', { prompt });
  const streamed = fetch(`${service.url}/api/claude/conversation/start?session_id=stream`, {
    method: 'POST',
    headers: { ...headers, accept: 'text/event-stream' },
    body: JSON.stringify({ prompt }),
  }).then((response) => response.text());
  const followed = pendingIn(service, 'json')
    .then(() => fetch(`${service.url}/api/claude/conversation/json/events`, { headers }))
    .then((response) => response.text());
  for (const id of ['json', 'stream']) await pendingIn(service, id);
  await until(async () => (await call(service, 'GET', 'conversation/json/info')).body['status'] === 'waiting');
  assert.equal(await stopped(service), 0);
  const { status, body } = await asked;
  assert.deepEqual([status, body['status'], body['approvals']?.length], [202, 'waiting', 1], JSON.stringify(body));
  assert.match(await streamed, /"type":"approval_requested"/u);
  assert.doesNotMatch(await streamed, /\[DONE\]/u);
  await followed;
  assert.deepEqual(await processesWith(service.runDir), []);
  await service.start();
  for (const id of ['json', 'stream']) {
    const approval = await pendingIn(service, id);
    await decide(service, approval, { decision: 'allow' });
    const log = await logAtRest(service, id);
    assert.equal(log.at(-1)?.['stop_reason'], 'end_turn', JSON.stringify(log.at(-1)));
    assert.equal(log.filter(({ type }) => type === 'tool_start').length, 1);
    assert.equal((await call(service, 'GET', `conversation/${id}/files`)).body['items'][0].path, 'a.txt');
  }
});

test('a stop lets running turns end', async (context) => {
  const service = await restartable(context, { env: patient });
  const stay = call(service, 'POST', 'conversation/start?session_id=stay', { prompt: scripted([slow], 'who-stays') });
  const query = call(service, 'POST', 'query', { prompt: scripted([slow], 'who-asks') });
  for (const word of ['who-stays', 'who-asks']) await until(() => callsWith(service, word).length === 1);
  assert.equal(await stopped(service), 0);
  for (const { status, body } of [await stay, await query]) {
    assert.deepEqual([status, body['stop_reason']], [200, 'end_turn'], JSON.stringify(body));
  }
  for (const word of ['who-stays', 'who-asks']) assert.equal(turnState(service, word), 'completed', word);
});

test('a stop lets a turn end whose client has left', async (context) => {
  const service = await restartable(context, { env: patient });
  const abort = new AbortController();
  const left = fetch(`${service.url}/api/claude/conversation/start?session_id=leave`, {
    method: 'POST',
    headers,
    body: JSON.stringify({ prompt: scripted([slow], 'who-leaves') }),
    signal: abort.signal,
  }).catch(() => null);
  await until(() => callsWith(service, 'who-leaves').length === 1);
  abort.abort();
  await left;
  assert.equal(await stopped(service), 0);
  assert.equal(turnState(service, 'who-leaves'), 'completed');
});

test('idle connections and readers do not hold a stop up', async (context) => {
  const service = await restartable(context, { env: patient });
  const { port, hostname: host } = new URL(service.url);
  const agent = new Agent({ keepAlive: true });
  const sockets = await Promise.all(
    Array.from({ length: 5 }, async () => {
      const request = httpRequest(`${service.url}/health`, { agent }).end();
      const [response] = (await once(request, 'response')) as [IncomingMessage];
      response.resume();
      await once(response, 'end');
      return request.socket;
    }),
  );
  const silent = connect(Number(port), host);
  await once(silent, 'connect');
  await call(service, 'POST', 'conversation/start?session_id=c', { prompt: scripted([{ text: 'Hi.' }]) });
  const followed = await fetch(`${service.url}/api/claude/conversation/c/events`, { headers });
  const socket = new WebSocket(`${service.url.replace('http', 'ws')}/api/claude/ws/one`, {
    headers: { authorization: `Bearer ${userKey}` },
  });
  await once(socket, 'open');
  const gone = once(socket, 'close');
  assert.equal(await stopped(service), 0);
  await gone;
  assert.ok(eventsIn(await followed.text()).length > 0);
  await until(() => sockets.every((each) => each?.readyState !== 'open'));
  agent.destroy();
  silent.destroy();
  assert.deepEqual(await processesWith(service.runDir), []);
});

test('while it stops it takes nothing new', async (context) => {
  const service = await restartable(context, { env: patient });
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const ask = async (path: string, body?: Body) => {
    const method = body === undefined ? 'GET' : 'POST';
    const request = httpRequest(`${service.url}${path}`, { agent, method, headers });
    request.end(body && JSON.stringify(body));
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    let text = '';
    for await (const chunk of response) text += String(chunk);
    return { status: response.statusCode, body: JSON.parse(text) as Body };
  };
  const running = call(service, 'POST', 'conversation/start?session_id=c', { prompt: scripted([slow], 'running') });
  await until(() => callsWith(service, 'running').length === 1);
  // Begun before the stop, so that its connection lives on.
  const second = call(service, 'POST', 'conversation/c/continue', { session_id: 'c', message: 'x' });
  assert.equal((await second).body['code'], 'conversation_busy');
  const { url, program } = service;
  program.signal('SIGTERM');
  await until(() => isStopping(url));
  const late = await ask('/api/claude/query', { prompt: 'Hi.' }).catch(() => null);
  if (late) assert.deepEqual([late.status, late.body['code']], [503, 'not_ready']);
  assert.equal((await running).body['stop_reason'], 'end_turn');
  assert.equal(await program.exited, 0);
  agent.destroy();
  assert.equal(service.simulator.requests.length, 1);
});

test('asked a second time it ends at once, and the turn goes on with the next start', async (context) => {
  const service = await restartable(context, { env: patient });
  const message = scripted([slow], 'start-twice');
  const lost = call(service, 'POST', 'conversation/start?session_id=c', { prompt: message }).catch(() => null);
  const other = call(service, 'POST', 'query', { prompt: scripted([endless], 'query-twice') }).catch(() => null);
  await until(() => callsWith(service, 'start-twice').length > 0 && callsWith(service, 'query-twice').length > 0);
  await until(async () => (await logOf(service, 'c')).some(({ type }) => type === 'text_delta'));
  const { url, program } = service;
  program.signal('SIGTERM');
  await until(() => isStopping(url));
  program.signal('SIGTERM');
  assert.equal(await program.exited, 1);
  await Promise.all([lost, other]);
  await until(async () => (await processesWith(service.runDir)).length === 0);
  await service.start();
  const log = await logAtRest(service, 'c');
  assert.equal(log.filter(({ type }) => type === 'result').length, 1);
  assert.equal(turnState(service, 'query-twice'), 'interrupted');
});
