import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmod, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { ClaudeResponse, ServerFrame } from '@sallyport/protocol';
import { WebSocket } from 'ws';
import { openSocket, type Client } from '../../packages/server/src/http/socket-support.ts';
import { call, logAtRest, logOf } from '../support/approvals.ts';
import { restartable } from '../support/restart.ts';
import { scripted, until } from '../support/runs.ts';
import { masterKey, startService, userKey, type TestService } from '../support/service.ts';

let service: TestService;
before(async () => {
  service = await startService();
});
after(() => service.close());

const portOf = ({ url }: { url: string }): number => Number(new URL(url).port);
const open = (key = userKey, at: { url: string } = service): Promise<Client> =>
  openSocket(portOf(at), '/ws/flow', { headers: { authorization: `Bearer ${key}` } });
const say = (text: string) => scripted([{ text }]);

/** Takes frames up to and with the first that passes. */
async function upTo(client: Client, passes: (frame: ServerFrame) => boolean): Promise<ServerFrame[]> {
  const taken: ServerFrame[] = [];
  do taken.push(await client.next());
  while (!passes(taken.at(-1) as ServerFrame));
  return taken;
}
const isEvent = (type: ClaudeResponse['event_type']) => (frame: ServerFrame) =>
  frame.type === 'claude_response' && frame.event_type === type;
const responses = (frames: readonly ServerFrame[]): ClaudeResponse[] =>
  frames.filter((frame) => frame.type === 'claude_response');
const textOf = (frames: readonly ServerFrame[]): string =>
  responses(frames)
    .filter((frame) => frame.event_type === 'text_delta')
    .map(({ content }) => content)
    .join('');

/** The event of a frame, as SSE tells it, but that each names its conversation. */
function asInStream({ type: _type, event_type: type, seq: _seq, ...event }: ClaudeResponse) {
  return { ...event, type };
}

test('a client of the seed talks, goes on talking, and ends the conversation', async () => {
  const client = await open();
  client.send({
    type: 'start_conversation',
    prompt: say('Hello over the socket.'),
    max_turns: 5,
    permission_mode: 'readOnly',
  });
  const [started, ...first] = await upTo(client, (frame) => frame.type === 'claude_response' && frame.is_complete);
  assert.equal(started?.type, 'conversation_started');
  const id = started?.type === 'conversation_started' ? started.session_id : '';
  assert.equal(textOf(first), 'Hello over the socket.');
  assert.ok(
    responses(first).every(({ role }) => role !== 'user'),
    'its own message is not told to it',
  );
  const result = responses(first).at(-1);
  assert.ok(result?.event_type === 'result' && result.success && result.error === null);
  client.send({ type: 'send_message', message: say('And again.') });
  const second = await upTo(client, isEvent('result'));
  assert.equal(textOf(second), 'And again.');
  assert.match(
    JSON.stringify(service.simulator.requests.at(-1)?.body),
    /Hello over the socket\./u,
    'the model is told the past',
  );
  assert.equal((await call(service, 'GET', `conversation/${id}/info`)).body['status'], 'idle');
  client.send({ type: 'end_conversation' });
  assert.deepEqual(await client.next(), { type: 'conversation_ended', session_id: id });
  assert.equal((await call(service, 'GET', `conversation/${id}/info`)).status, 404);
  client.send({ type: 'send_message', message: 'x' });
  const refused = await client.next();
  assert.ok(refused.type === 'error' && refused.code === 'conversation_not_found');
  client.socket.close();
});

test('a human allows and denies over the socket while the turn waits', async () => {
  const project = join(service.root, 'socket');
  await mkdir(project);
  await chmod(project, 0o777);
  const write = (name: string) => ({
    name: 'Write',
    input: { file_path: join(project, name), content: 'as Claude wants' },
  });
  const client = await open();
  client.send({
    type: 'start_conversation',
    session_id: 'asked',
    prompt: scripted([{ tools: [write('yes.txt')] }, { tools: [write('no.txt')] }, { text: 'So be it.' }]),
    project_path: project,
  });
  const frames: ServerFrame[] = [];
  for (const decision of [
    { decision: 'allow', updated_input: { file_path: join(project, 'yes.txt'), content: 'as the human wants' } },
    { decision: 'deny', message: 'Not that one.' },
  ]) {
    frames.push(...(await upTo(client, isEvent('approval_requested'))));
    const asked = frames.at(-1);
    assert.ok(asked?.type === 'claude_response' && asked.event_type === 'approval_requested');
    assert.deepEqual(await client.ping(), [], 'the socket is served while the turn waits');
    client.send({ type: 'approval', approval_id: asked.approval.approval_id, ...decision });
    client.send({ type: 'approval', approval_id: asked.approval.approval_id, ...decision });
    frames.push(...(await upTo(client, (frame) => frame.type === 'error')));
    const late = frames.at(-1);
    assert.ok(late?.type === 'error' && late.code === 'already_decided' && late.in_reply_to === 'approval');
  }
  frames.push(...(await upTo(client, isEvent('result'))));
  assert.equal(textOf(frames), 'So be it.');
  assert.equal(await readFile(join(project, 'yes.txt'), 'utf8'), 'as the human wants');
  await assert.rejects(readFile(join(project, 'no.txt')));
  const decided = responses(frames).flatMap((frame) => (frame.event_type === 'approval_decided' ? [frame.status] : []));
  assert.deepEqual(decided, ['allowed', 'denied']);
  client.socket.close();
});

test('a question is answered over the socket', async () => {
  const question = 'Which colour?';
  const options = [
    { label: 'Red', description: 'like a rose' },
    { label: 'Blue', description: 'like the sky' },
  ];
  const input = { questions: [{ question, header: 'Colour', options, multiSelect: false }] };
  const client = await open();
  client.send({
    type: 'start_conversation',
    prompt: scripted([{ tools: [{ name: 'AskUserQuestion', input }] }, { text: 'Blue it is.' }]),
    allowed_tools: ['Read', 'AskUserQuestion'],
  });
  const asked = (await upTo(client, isEvent('question'))).at(-1);
  assert.ok(asked?.type === 'claude_response' && asked.event_type === 'question');
  client.send({ type: 'answer', question_id: asked.approval.approval_id, answers: { [question]: 'Blue' } });
  assert.equal(textOf(await upTo(client, isEvent('result'))), 'Blue it is.');
  client.socket.close();
});

test('one turn at a time: a second message is refused, and an interrupt ends the first', async () => {
  const client = await open();
  client.send({ type: 'start_conversation', prompt: scripted([{ text: 'slow '.repeat(400), rate: 20 }]) });
  await upTo(client, isEvent('text_delta'));
  client.send({ type: 'send_message', message: 'me too' });
  const refused = (await upTo(client, (frame) => frame.type === 'error')).at(-1);
  assert.ok(refused?.type === 'error' && refused.code === 'conversation_busy' && refused.retryable);
  client.send({ type: 'interrupt' });
  client.send({ type: 'send_message', message: say('Still here.') }); // accepted, as the first turn has ended by then
  const cut = (await upTo(client, isEvent('result'))).at(-1);
  assert.ok(cut?.type === 'claude_response' && cut.event_type === 'result' && cut.stop_reason === 'interrupted');
  assert.equal(textOf(await upTo(client, isEvent('result'))), 'Still here.');
  client.socket.close();
});

test('a dropped socket stops nothing, and another one goes on where it was', async () => {
  const text = 'one two three four five six seven eight nine ten '.repeat(8);
  const first = await open();
  first.send({
    type: 'start_conversation',
    session_id: 'dropped',
    prompt: scripted([{ thinking: 'hm', text, rate: 100 }]),
  });
  const seen = responses(await upTo(first, (frame) => textOf([frame]) !== ''));
  first.socket.terminate();
  const again = await open();
  again.send({ type: 'resume', session_id: 'dropped', after: seen.at(-1)?.seq });
  const middle = responses(await upTo(again, (frame) => textOf([frame]) !== ''));
  again.socket.terminate();
  const last = await open();
  last.send({ type: 'resume', session_id: 'dropped', after: middle.at(-1)?.seq });
  const rest = responses(await upTo(last, isEvent('result')));
  assert.equal(textOf([...seen, ...middle, ...rest]), text);
  // The whole log, from another socket and from SSE, is the same but for the pieces of a text.
  const log = (await logAtRest(service, 'dropped')).map((event) => ({ ...event, session_id: 'dropped' }));
  last.send({ type: 'resume', session_id: 'dropped' });
  const all = responses(await upTo(last, isEvent('result')));
  assert.deepEqual(all.map(asInStream), log);
  assert.equal(textOf(all), text);
  for (const { seq } of all.slice(0, -1)) {
    last.send({ type: 'resume', session_id: 'dropped', after: seq });
    const suffix = responses(await upTo(last, isEvent('result')));
    const cut = all.findIndex((frame) => frame.seq === seq);
    assert.deepEqual(suffix.map(asInStream), log.slice(cut + 1), seq);
  }
  last.send({ type: 'resume', session_id: 'dropped', after: '9999.0' });
  const beyond = await last.next();
  assert.ok(beyond.type === 'error' && beyond.code === 'bad_cursor');
  last.socket.close();
});

test('two sockets that follow one conversation are told the same, each other’s messages too', async () => {
  const [one, two] = [await open(), await open()];
  one.send({ type: 'start_conversation', session_id: 'shared', prompt: say('First.') });
  await upTo(one, isEvent('result'));
  two.send({ type: 'resume', session_id: 'shared' });
  const replay = responses(await upTo(two, isEvent('result')));
  assert.equal(replay[0]?.event_type, 'user_message');
  const message = say('Second.');
  two.send({ type: 'send_message', message });
  const [heard, own] = [responses(await upTo(one, isEvent('result'))), responses(await upTo(two, isEvent('result')))];
  assert.deepEqual([heard[0]?.event_type, heard[0]?.content], ['user_message', message]);
  assert.deepEqual(own.map(asInStream), heard.slice(1).map(asInStream), 'who said it is not told it');
  for (const client of [one, two]) client.socket.close();
});

test('nobody reaches the conversation or the approval of another key', async () => {
  const admin = await open(masterKey);
  const write = { name: 'Write', input: { file_path: '/workspace/a.txt', content: 'a' } };
  admin.send({
    type: 'start_conversation',
    session_id: 'secret',
    prompt: scripted([{ tools: [write] }, { text: 'done' }]),
  });
  const asked = (await upTo(admin, isEvent('approval_requested'))).at(-1);
  assert.ok(asked?.type === 'claude_response' && asked.event_type === 'approval_requested');
  const stranger = await open();
  const refusedWith = async (frame: object) => {
    stranger.send(frame);
    const answer = await stranger.next();
    return answer.type === 'error' ? answer.code : answer.type;
  };
  for (const frame of [
    { type: 'resume', session_id: 'secret' },
    { type: 'send_message', session_id: 'secret', message: 'x' },
    { type: 'interrupt', session_id: 'secret' },
    { type: 'end_conversation', session_id: 'secret' },
  ]) {
    assert.equal(await refusedWith(frame), 'conversation_not_found', frame.type);
  }
  const { approval_id } = asked.approval;
  assert.equal(await refusedWith({ type: 'approval', approval_id, decision: 'allow' }), 'approval_not_found');
  admin.send({ type: 'approval', approval_id, decision: 'deny' });
  assert.equal(textOf(await upTo(admin, isEvent('result'))), 'done');
  for (const client of [admin, stranger]) client.socket.close();
});

test('a ticket opens one socket, as its key', async () => {
  const { body } = await call(service, 'POST', 'ws-ticket', undefined);
  const ticket = body['ticket'] as string;
  const url = `${service.url.replace('http', 'ws')}/api/claude/ws/browser`;
  const socket = new WebSocket(url, ['sallyport', `sallyport.ticket.${ticket}`], { origin: service.url });
  await once(socket, 'open');
  assert.equal(socket.protocol, 'sallyport');
  socket.send('{"type":"ping"}');
  assert.equal(String((await once(socket, 'message'))[0]), '{"type":"pong"}');
  socket.close();
  const [error] = (await once(new WebSocket(`${url}?ticket=${ticket}`), 'error')) as [Error];
  assert.match(error.message, /401/u);
  assert.ok(!service.logs.some((line) => line.includes(ticket)));
});

test('a service that closes says where to go on, and after its restart a socket goes on there', async (context) => {
  const restarting = await restartable(context, { env: { SALLYPORT_DRAIN_SECONDS: '2' } });
  const client = await open(userKey, restarting);
  const prompt = scripted([{ text: 'slow '.repeat(400), rate: 20 }]);
  client.send({ type: 'start_conversation', session_id: 'cut', prompt });
  const seen = responses(await upTo(client, isEvent('text_delta')));
  restarting.program.signal('SIGTERM');
  const frames = await upTo(client, (frame) => frame.type === 'going_away');
  seen.push(...responses(frames));
  const seq = seen.at(-1)?.seq;
  assert.deepEqual(frames.at(-1), { type: 'going_away', cursors: { cut: seq } });
  assert.equal((await client.closed).code, 1001);
  assert.equal(await restarting.program.exited, 0);
  await restarting.start();
  const again = await open(userKey, restarting);
  again.send({ type: 'resume', session_id: 'cut', after: seq });
  const rest = responses(await upTo(again, isEvent('result')));
  const result = rest.at(-1);
  assert.ok(result?.event_type === 'result' && result.stop_reason === 'interrupted');
  const [, ...log] = await logAtRest(restarting, 'cut');
  const told = log.filter(({ type }) => type === 'text_delta').map(({ content }) => content as string);
  assert.equal(textOf([...seen, ...rest]), told.join(''));
  again.socket.close();
});

test('a refused start starts nothing', async () => {
  const client = await open();
  const calls = service.simulator.requests.length;
  for (const frame of [
    { type: 'start_conversation', prompt: 'x', project_path: '/' },
    { type: 'start_conversation', prompt: 'x', model: 'no-such-model' },
    { type: 'start_conversation', prompt: 'x', max_turns: 100 },
  ]) {
    client.send(frame);
    assert.equal((await client.next()).type, 'error', JSON.stringify(frame));
  }
  client.send({ type: 'start_conversation', session_id: 'taken-by-socket', prompt: say('Mine.') });
  await upTo(client, isEvent('result'));
  client.send({ type: 'start_conversation', session_id: 'taken-by-socket', prompt: say('Again.') });
  const refused = await client.next();
  assert.ok(refused.type === 'error' && refused.code === 'conversation_exists');
  await until(async () => (await logOf(service, 'taken-by-socket')).length > 0);
  assert.equal(service.simulator.requests.length, calls + 1);
  client.socket.close();
});
