import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Step } from '@sallyport/simulator';
import { call, decide, logAtRest, logOf, pendingIn } from '../support/approvals.ts';
import { restartable } from '../support/restart.ts';
import { callsWith, rows, scripted, until } from '../support/runs.ts';
import { masterKey, startService, userKey, type TestService } from '../support/service.ts';

type Body = Record<string, any>;
type Service = Pick<TestService, 'url' | 'simulator'>;

let service: TestService;
before(async () => {
  service = await startService();
});
after(() => service.close());

const write = (path: string, content: string): Step => ({
  tools: [{ name: 'Write', input: { file_path: `/workspace/${path}`, content } }],
});
const read = (path: string): Step => ({ tools: [{ name: 'Read', input: { file_path: `/workspace/${path}` } }] });
const say = (text: string) => scripted([{ text }]);

async function start(of: Service, id: string, steps: readonly Step[], more: object = {}): Promise<Body> {
  const body = { prompt: scripted(steps), permission_mode: 'acceptEdits', ...more };
  const answer = await call(of, 'POST', `conversation/start?session_id=${id}`, body);
  assert.equal(answer.body['success'], true, JSON.stringify(answer.body));
  return answer.body;
}

async function next(of: Service, id: string, message: string): Promise<Body> {
  const { body } = await call(of, 'POST', `conversation/${id}/continue`, { session_id: id, message });
  assert.equal(body['success'], true, JSON.stringify(body));
  return body;
}

const fork = (of: Service, id: string, to?: string, key?: string) =>
  call(of, 'POST', `conversation/${id}/fork`, to === undefined ? {} : { session_id: to }, key);

async function file(of: Service, id: string, path: string): Promise<string | null> {
  const response = await fetch(`${of.url}/api/claude/conversation/${id}/files/${path}`, {
    headers: { authorization: `Bearer ${userKey}` },
  });
  const text = await response.text();
  return response.status === 200 ? text : null;
}

const filesOf = async (of: Service, id: string) =>
  (await call(of, 'GET', `conversation/${id}/files`)).body['items'].map(({ path }: Body) => path);
const messagesOf = async (of: Service, id: string) => (await call(of, 'GET', `conversation/${id}/messages`)).body;

/** What the model was sent last of all that holds the word, without cache marks. */
function lastSent(of: Service, word: string): unknown {
  const { messages } = callsWith(of, word).at(-1)?.body ?? {};
  return JSON.parse(JSON.stringify(messages).replaceAll(/,"cache_control":\{[^}]*\}/gu, ''));
}

test('a fork has the history, the memory and the files of the other one', async () => {
  await start(service, 'a', [write('notes.txt', 'one\n'), { text: 'Noted.' }]);
  await next(service, 'a', say('And a second answer.'));
  const made = await fork(service, 'a', 'b');
  assert.equal(made.status, 200, JSON.stringify(made.body));
  assert.deepEqual([made.body['session_id'], made.body['kind'], made.body['status']], ['b', 'conversation', 'idle']);
  assert.deepEqual(await messagesOf(service, 'b'), await messagesOf(service, 'a'));
  assert.deepEqual(await logOf(service, 'b'), await logOf(service, 'a'));
  const diffOf = async (id: string) => (await call(service, 'GET', `conversation/${id}/diff`)).body['changes'];
  assert.match(await diffOf('b'), /^\+one$/mu);
  assert.equal(await diffOf('b'), await diffOf('a'));
  assert.equal(await file(service, 'b', 'notes.txt'), 'one\n');
  const same = scripted([read('notes.txt'), { text: 'Read.' }], 'the same question');
  await next(service, 'b', same);
  const ofFork = lastSent(service, 'the same question');
  await next(service, 'a', same);
  // Ids of calls differ where they were made after the fork.
  const named = (messages: unknown) => JSON.stringify(messages).replaceAll(/toolu_[0-9a-f]+/gu, 'toolu');
  assert.equal(named(ofFork), named(lastSent(service, 'the same question')));
  assert.match(named(ofFork), /Noted\..*And a second answer\..*one/u);
});

test('a fork and the other one go on without each other', async () => {
  await start(service, 'left', [write('both.txt', 'both'), { text: 'Both.' }]);
  assert.equal((await fork(service, 'left', 'right')).status, 200);
  await next(service, 'left', scripted([write('left.txt', 'l'), write('both.txt', 'left'), { text: 'I am left.' }]));
  await next(service, 'right', scripted([write('right.txt', 'r'), { text: 'I am right.' }]));
  assert.deepEqual(await filesOf(service, 'left'), ['both.txt', 'left.txt']);
  assert.deepEqual(await filesOf(service, 'right'), ['both.txt', 'right.txt']);
  assert.deepEqual(
    [await file(service, 'left', 'both.txt'), await file(service, 'right', 'both.txt')],
    ['left', 'both'],
  );
  await next(service, 'left', say('left again'));
  await next(service, 'right', scripted([{ text: 'right again' }], 'to the right'));
  const sent = JSON.stringify(lastSent(service, 'to the right'));
  assert.ok(sent.includes('I am right.') && !sent.includes('I am left.'));
  assert.ok(!JSON.stringify(await messagesOf(service, 'left')).includes('I am right.'));
  assert.ok(!JSON.stringify(await logOf(service, 'right')).includes('I am left.'));
  const { body } = await call(service, 'GET', 'conversation/right/diff');
  assert.deepEqual(body['changed_paths'], ['both.txt', 'right.txt']);
});

test('an id that is taken is refused, and nothing of its conversation is harmed', async () => {
  await start(service, 'from', [write('mine.txt', 'of from'), { text: 'From.' }]);
  await start(service, 'victim', [write('mine.txt', 'of victim'), { text: 'Victim.' }]);
  const before = await logOf(service, 'victim');
  const transcripts = () => rows(service, 'select distinct session from transcripts order by session');
  const stored = transcripts();
  for (const id of ['victim', 'from']) {
    const refused = await fork(service, 'from', id);
    assert.deepEqual([refused.status, refused.body['code']], [409, 'conversation_exists']);
  }
  assert.deepEqual(transcripts(), stored, 'nothing that was copied is left');
  assert.deepEqual(await logOf(service, 'victim'), before);
  assert.equal(await file(service, 'victim', 'mine.txt'), 'of victim');
  await next(service, 'victim', scripted([read('mine.txt'), { text: 'Well.' }], 'are you well'));
  const sent = JSON.stringify(lastSent(service, 'are you well'));
  assert.ok(sent.includes('Victim.') && sent.includes('of victim') && !sent.includes('of from'));
  await next(service, 'from', say('I too.'));
});

test('one whose turn runs or waits cannot be forked, and its turn goes on', async () => {
  await start(service, 'busy', [{ text: 'Hi.' }]);
  const running = next(service, 'busy', scripted([{ text: 'slow '.repeat(20), rate: 20 }, { text: '' }], 'busy-turn'));
  await until(() => callsWith(service, 'busy-turn').length === 1);
  const refused = await fork(service, 'busy', 'busy-fork');
  assert.deepEqual([refused.status, refused.body['code']], [409, 'conversation_busy']);
  assert.equal((await running)['success'], true);
  const waiting = start(service, 'ask', [write('a.txt', 'a'), { text: 'Done.' }], { permission_mode: 'askForEdits' });
  const approval = await pendingIn(service, 'ask');
  assert.deepEqual((await fork(service, 'ask', 'ask-fork')).body['code'], 'conversation_busy');
  await decide(service, approval, { decision: 'allow' });
  await waiting;
  assert.equal((await call(service, 'GET', 'conversation/ask-fork/info')).status, 404);
  assert.equal((await fork(service, 'ask', 'ask-fork')).status, 200);
});

test("another key's conversation cannot be forked, and an admin's fork is the admin's own", async () => {
  const body = { prompt: say('Mine.') };
  assert.equal((await call(service, 'POST', 'conversation/start?session_id=own', body, masterKey)).status, 200);
  const refused = await fork(service, 'own', 'stolen');
  const unknown = await fork(service, 'never-was', 'stolen');
  assert.deepEqual([refused.status, refused.body['code']], [404, 'conversation_not_found']);
  assert.equal(refused.body['detail'], unknown.body['detail']);
  await start(service, 'users', [{ text: 'Hi.' }]);
  assert.equal((await fork(service, 'users', 'of-admin', masterKey)).status, 200);
  assert.equal((await call(service, 'GET', 'conversation/of-admin/info')).status, 404);
  assert.equal((await call(service, 'GET', 'conversation/of-admin/info', undefined, masterKey)).status, 200);
});

test('of ten forks under one id one is made, and it works; without an id each is', async () => {
  await start(service, 'many', [write('m.txt', 'm'), { text: 'Many.' }]);
  const forks = await Promise.all(Array.from({ length: 10 }, () => fork(service, 'many', 'the-one')));
  assert.deepEqual(
    forks.map(({ status }) => status).toSorted((a, b) => a - b),
    [200, ...Array<number>(9).fill(409)],
  );
  assert.equal(await file(service, 'the-one', 'm.txt'), 'm');
  await next(service, 'the-one', scripted([read('m.txt'), { text: 'Yes.' }], 'the one?'));
  assert.match(JSON.stringify(lastSent(service, 'the one?')), /Many\./u);
  const free = await Promise.all(Array.from({ length: 3 }, () => fork(service, 'many')));
  assert.equal(new Set(free.map(({ body }) => body['session_id'])).size, 3);
  for (const { body } of free) assert.equal(await file(service, body['session_id'], 'm.txt'), 'm');
});

test('a fork and the next turn at the same time: both come out whole', async () => {
  const big = 'x'.repeat(300_000);
  const files = Array.from({ length: 6 }, (_, index) => ({ path: `big-${index}.txt`, content: big }));
  await start(service, 'race', [{ text: 'Begun.' }], { files });
  for (let time = 0; time < 8; time += 1) {
    const message = scripted([write('turn.txt', `${time}`), { text: `Turn ${time}.` }]);
    const forking = Array.from({ length: 3 }, () => fork(service, 'race'));
    await sleep(time * 30);
    const { status, body } = await call(service, 'POST', 'conversation/race/continue', { session_id: 'race', message });
    const forks = await Promise.all(forking);
    if (status === 409) assert.equal(body['code'], 'conversation_busy');
    else assert.equal(body['success'], true, JSON.stringify(body));
    for (const made of forks) {
      if (made.status !== 200) {
        assert.deepEqual([made.status, made.body['code']], [409, 'conversation_busy'], JSON.stringify(made.body));
        continue;
      }
      const id = made.body['session_id'];
      assert.ok((await filesOf(service, id)).includes('big-5.txt'));
    }
  }
  await next(service, 'race', say('Still here.'));
  assert.ok((await filesOf(service, 'race')).includes('big-5.txt'));
});

test('without the one it was made from a fork lives on, through a restart too', async (context) => {
  const again = await restartable(context);
  await start(again, 'origin', [write('kept.txt', 'kept'), { text: 'Original.' }]);
  assert.equal((await fork(again, 'origin', 'heir')).status, 200);
  assert.equal((await call(again, 'DELETE', 'conversation/origin')).status, 200);
  await again.killAndRestart();
  assert.equal((await call(again, 'GET', 'conversation/origin/info')).status, 404);
  await next(again, 'heir', scripted([read('kept.txt'), { text: 'I have it.' }], 'what is left'));
  const sent = JSON.stringify(lastSent(again, 'what is left'));
  assert.ok(sent.includes('Original.') && sent.includes('kept'));
  assert.equal((await logAtRest(again, 'heir')).at(-1)?.['stop_reason'], 'end_turn');
  // The id of the one that is gone is free, for a fork as well.
  assert.equal((await fork(again, 'heir', 'origin')).status, 200);
  await next(again, 'origin', say('Back.'));
});

test('a one-shot can be forked, and the fork is a conversation', async () => {
  const prompt = scripted([write('shot.txt', 'shot'), { text: 'Shot.' }]);
  const { body } = await call(service, 'POST', 'query', { prompt, permission_mode: 'acceptEdits' });
  const made = await fork(service, body['session_id'], 'from-shot');
  assert.deepEqual([made.status, made.body['kind']], [200, 'conversation'], JSON.stringify(made.body));
  await next(service, 'from-shot', scripted([read('shot.txt'), { text: 'Shot again.' }], 'shot?'));
  assert.match(JSON.stringify(lastSent(service, 'shot?')), /Shot\./u);
  assert.equal(await file(service, 'from-shot', 'shot.txt'), 'shot');
});
