import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { scripted } from '../support/runs.ts';
import { masterKey, query, startService, userKey, type TestService } from '../support/service.ts';

let service: TestService;
before(async () => {
  service = await startService();
});
after(() => service.close());

const base = '/api/claude/conversation';
const start = (id: string | null, body: object, key?: string) =>
  query(service, body, { path: `${base}/start${id === null ? '' : `?session_id=${id}`}`, ...(key && { key }) });
const next = (id: string, message: string, key?: string) =>
  query(service, { session_id: id, message }, { path: `${base}/${id}/continue`, ...(key && { key }) });
const call = async (method: string, path: string, key = userKey, headers: Record<string, string> = {}) => {
  const response = await fetch(`${service.url}${base}${path}`, {
    method,
    headers: { authorization: `Bearer ${key}`, ...headers },
  });
  const text = await response.text();
  const json = response.headers.get('content-type')?.startsWith('application/json') ?? false;
  return { status: response.status, text, body: json ? JSON.parse(text) : null };
};
const say = (text: string) => scripted([{ text }]);

test('a conversation remembers what was said, and its files stay', async () => {
  const write = { name: 'Write', input: { file_path: '/workspace/note.txt', content: 'first note\n' } };
  const first = await start('talk', {
    prompt: scripted([{ tools: [write] }, { text: 'Noted.' }]),
    permission_mode: 'acceptEdits',
  });
  assert.equal(first.status, 200, JSON.stringify(first.body));
  assert.equal(first.body['session_id'], 'talk');
  assert.equal(first.body['success'], true);
  assert.equal(first.body['message_count'], first.body['messages'].length);

  const second = await next(
    'talk',
    scripted([{ tools: [{ name: 'Read', input: { file_path: '/workspace/note.txt' } }] }, { text: 'It says so.' }]),
  );
  assert.equal(second.status, 200, JSON.stringify(second.body));
  assert.equal(second.body['success'], true);
  assert.equal(second.body['new_messages'].at(-1).content, 'It says so.');
  assert.equal(second.body['total_messages'], first.body['message_count'] + second.body['new_messages'].length);
  const last = JSON.stringify(service.simulator.requests.at(-1)?.body);
  assert.match(last, /Noted\./u, 'the model is sent what was said before');
  assert.match(last, /first note/u, 'the file of the first turn is there in the second');

  const info = await call('GET', '/talk/info');
  assert.equal(info.body.message_count, second.body['total_messages']);
  assert.deepEqual(info.body.tools_used, ['Write', 'Read']);
  assert.equal(info.body.status, 'idle');
  assert.equal(info.body.permission_mode, 'acceptEdits');
  assert.ok(info.body.tokens_used > 0);
  const history = await call('GET', '/talk/messages');
  assert.equal(history.body.items.length, second.body['total_messages']);
  assert.equal(new Set(history.body.items.map((item: { id: string }) => item.id)).size, history.body.items.length);
});

test('an id is taken once, and a wrong or unknown one changes nothing', async () => {
  assert.equal((await start('taken', { prompt: say('one') })).status, 200);
  const again = await start('taken', { prompt: say('two') });
  assert.deepEqual([again.status, again.body['code']], [409, 'conversation_exists']);
  const mismatch = await query(service, { session_id: 'other', message: 'x' }, { path: `${base}/taken/continue` });
  assert.equal(mismatch.status, 400);
  assert.equal((await next('unknown', 'x')).status, 404);
  for (const id of ['a/b', 'a b', '', 'x'.repeat(101), '%00', 'ä']) {
    assert.ok([404, 422].includes((await start(encodeURIComponent(id), { prompt: say('x') })).status), id);
  }
});

test('of twenty starts of one id at once, one runs', async () => {
  const before = service.simulator.requests.length;
  const starts = await Promise.all(Array.from({ length: 20 }, () => start('race', { prompt: say('only one') })));
  assert.deepEqual(
    starts.map(({ status }) => status).toSorted((a, b) => a - b),
    [200, ...Array.from({ length: 19 }, () => 409)],
  );
  assert.equal(service.simulator.requests.length - before, 1);
});

test('another key of the tenant sees nothing of it, an admin does', async () => {
  const other = await start('admins-own', { prompt: say('mine') }, masterKey);
  assert.equal(other.status, 200);
  for (const [method, path] of [
    ['GET', '/admins-own/info'],
    ['GET', '/admins-own/messages'],
    ['GET', '/admins-own/events?follow=false'],
    ['POST', '/admins-own/interrupt'],
    ['DELETE', '/admins-own'],
  ] as const) {
    const answer = await call(method, path);
    const unknown = await call(method, path.replace('admins-own', 'never-was'));
    assert.equal(answer.status, 404, path);
    assert.equal(answer.body.code, 'conversation_not_found');
    assert.equal(answer.body.detail, unknown.body.detail);
  }
  assert.equal((await next('admins-own', 'x')).status, 404);
  assert.equal((await call('GET', '/taken/info', masterKey)).status, 200);
  const listed = await call('GET', '');
  const ids = listed.body.items.map((item: { session_id: string }) => item.session_id);
  assert.ok(ids.includes('taken') && !ids.includes('admins-own'));
});

test('one turn at a time: a second message waits its turn, an interrupt ends the first', async () => {
  const slow = scripted([{ text: 'slow '.repeat(400), rate: 20 }]);
  assert.equal((await start('busy', { prompt: say('hello') })).status, 200);
  const running = next('busy', slow);
  while ((await call('GET', '/busy/info')).body.status !== 'running')
    await new Promise((resolve) => setTimeout(resolve, 20));
  const second = await next('busy', 'me too');
  assert.deepEqual([second.status, second.body['code']], [409, 'conversation_busy']);
  await waitForText('busy');
  assert.deepEqual((await call('POST', '/busy/interrupt')).body, { session_id: 'busy', interrupted: true });
  const cut = await running;
  assert.equal(cut.body['stop_reason'], 'interrupted');
  assert.match(cut.body['new_messages'].at(-1).content, /^slow/u);
  assert.deepEqual((await call('POST', '/busy/interrupt')).body, { session_id: 'busy', interrupted: false });
  const after = await next('busy', say('still here'));
  assert.equal(after.body['success'], true, JSON.stringify(after.body));
});

/** Reads the events until text arrives. */
async function waitForText(id: string): Promise<void> {
  const abort = new AbortController();
  const response = await fetch(`${service.url}${base}/${id}/events`, {
    headers: { authorization: `Bearer ${userKey}` },
    signal: abort.signal,
  });
  let text = '';
  for await (const chunk of response.body as ReadableStream<Uint8Array>) {
    text += Buffer.from(chunk).toString();
    if (/"content":"[^"]*slow/u.test(text)) break;
  }
  abort.abort();
}

test('a client that leaves does not stop the turn of a conversation', async () => {
  const abort = new AbortController();
  const leaving = fetch(`${service.url}${base}/start?session_id=left`, {
    method: 'POST',
    headers: { authorization: `Bearer ${userKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: scripted([{ text: 'finished all the same', rate: 5 }]) }),
    signal: abort.signal,
  });
  while ((await call('GET', '/left/info')).status !== 200) await new Promise((resolve) => setTimeout(resolve, 20));
  abort.abort();
  await assert.rejects(leaving);
  while ((await call('GET', '/left/info')).body.status === 'running')
    await new Promise((resolve) => setTimeout(resolve, 20));
  const { body } = await call('GET', '/left/messages');
  assert.deepEqual(body.items.map((item: { content: string }) => item.content).slice(1), ['finished all the same']);
});

test('the log can be read from any place of it, with the same text in the end', async () => {
  await start('replay', { prompt: say('the first answer') });
  await next('replay', scripted([{ thinking: 'hm', text: 'the second 😀 answer' }]));
  const whole = await call('GET', '/replay/events?follow=false');
  const frames = framesOf(whole.text);
  assert.equal(whole.text.trimEnd().split('\n').at(-1), 'data: [DONE]');
  assert.equal(frames.filter(({ event }) => event.is_complete).length, 2);
  assert.deepEqual(frames.filter(({ event }) => event.role === 'user').length, 2);
  for (let cut = 0; cut < frames.length; cut += 1) {
    const rest = await call('GET', '/replay/events?follow=false', userKey, { 'last-event-id': frames[cut]?.id ?? '' });
    assert.equal(textOf(frames.slice(0, cut + 1)) + textOf(framesOf(rest.text)), textOf(frames));
  }
  for (const cursor of ['x', '-1.0', '999999.0', '1']) {
    const refused = await call('GET', `/replay/events?follow=false&after=${cursor}`);
    assert.deepEqual([refused.status, refused.body.code], [400, 'bad_cursor'], cursor);
  }
});

interface Frame {
  readonly id: string;
  readonly event: {
    readonly content: string;
    readonly role: string;
    readonly type: string;
    readonly is_complete: boolean;
  };
}

const framesOf = (text: string): Frame[] =>
  [...text.matchAll(/^id: (.*)\ndata: (.*)$/gmu)].map((match) => ({
    id: match[1] ?? '',
    event: JSON.parse(match[2] ?? ''),
  }));
const textOf = (frames: readonly Frame[]) =>
  frames.map(({ event }) => (event.type === 'text_delta' ? event.content : '')).join('');

test('a deleted conversation is gone, in mid-turn too, and its id is free again', async () => {
  await start('doomed', { prompt: say('hello') });
  const running = next('doomed', scripted([{ text: 'endless '.repeat(400), rate: 10 }]));
  while ((await call('GET', '/doomed/info')).body.status !== 'running')
    await new Promise((resolve) => setTimeout(resolve, 20));
  const before = service.sallyport.processes().length;
  assert.equal((await call('DELETE', '/doomed')).status, 200);
  await running;
  assert.equal(service.sallyport.processes().length, before - 1);
  assert.equal((await call('GET', '/doomed/info')).status, 404);
  assert.equal((await call('DELETE', '/doomed')).status, 404);
  const anew = await start('doomed', { prompt: say('born again') });
  assert.equal(anew.body['message_count'], 2);
  assert.ok(!JSON.stringify(service.simulator.requests.at(-1)?.body).includes('endless'));
});

test('pages of the list hold every conversation once', async () => {
  const all: string[] = [];
  for (let cursor: string | null = ''; cursor !== null;) {
    const page: { body: any } = await call('GET', `?limit=2${cursor ? `&cursor=${cursor}` : ''}`);
    all.push(...page.body.items.map((item: { session_id: string }) => item.session_id));
    cursor = page.body.next_cursor;
  }
  assert.equal(new Set(all).size, all.length);
  for (const id of ['talk', 'taken', 'busy', 'replay', 'doomed']) assert.ok(all.includes(id), id);
  assert.equal((await call('GET', '?cursor=zzz')).body.code, 'bad_cursor');
  assert.equal((await call('GET', '?limit=0')).status, 422);
  assert.equal((await call('GET', '?unknown=1')).status, 422);
});
