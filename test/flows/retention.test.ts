import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Step } from '@sallyport/simulator';
import { call, decide, logAtRest, pendingIn } from '../support/approvals.ts';
import { processesWith } from '../support/processes.ts';
import { restartable, type Restartable } from '../support/restart.ts';
import { callsWith, rows, scripted, until } from '../support/runs.ts';
import { userKey } from '../support/service.ts';
import { age } from '../support/stored.ts';

type Body = Record<string, any>;

const hour = 3_600_000;
const day = 24 * hour;

const write = (path: string, content: string): Step => ({
  tools: [{ name: 'Write', input: { file_path: `/workspace/${path}`, content } }],
});

async function start(of: Restartable, id: string, steps: readonly Step[] = [{ text: 'Hi.' }]): Promise<void> {
  const body = { prompt: scripted(steps), permission_mode: 'acceptEdits', system_prompt: 'a word to be forgotten' };
  const answer = await call(of, 'POST', `conversation/start?session_id=${id}`, body);
  assert.equal(answer.body['success'], true, JSON.stringify(answer.body));
}

const next = (of: Restartable, id: string, message: string) =>
  call(of, 'POST', `conversation/${id}/continue`, { session_id: id, message });
const statusOf = async (of: Restartable, id: string) =>
  (await call(of, 'GET', `conversation/${id}/info`)).body['status'];
/** What the store says, which the sweeper has written. */
const stored = (of: Restartable, id: string) =>
  rows(of, 'select status from conversations where id = ?', id)[0]?.['status'];
/** How many have files, besides the name of the directory. */
const kept = async (of: Restartable) =>
  (await readdir(join(of.dataDir, 'workspaces'))).filter((name) => name !== 'place').length;

test('a conversation that nobody speaks in ends, and can be read on', async (context) => {
  const service = await restartable(context);
  await start(service, 'old', [write('a.txt', 'alpha'), { text: 'Written.' }]);
  await start(service, 'young');
  const messages = (await call(service, 'GET', 'conversation/old/messages')).body;
  await service.kill();
  age(service, 'old', hour + 1000);
  age(service, 'young', hour - 600_000);
  await service.start();
  assert.equal(await statusOf(service, 'old'), 'ended');
  await until(() => stored(service, 'old') === 'ended');
  const refused = await next(service, 'old', 'Are you there?');
  assert.deepEqual([refused.status, refused.body['code']], [409, 'conversation_ended']);
  assert.deepEqual((await call(service, 'GET', 'conversation/old/messages')).body, messages);
  assert.equal((await call(service, 'GET', 'conversation/old/diff')).body['changed_paths'][0], 'a.txt');
  assert.equal((await call(service, 'GET', 'conversation/old/files')).body['items'].length, 1);
  const followed = await fetch(`${service.url}/api/claude/conversation/old/events`, {
    headers: { authorization: `Bearer ${userKey}` },
  });
  assert.match(await followed.text(), /\ndata: \[DONE\]\n\n$/u, 'what has ended is not waited for');
  for (const [status, ids] of Object.entries({ ended: ['old'], idle: ['young'] })) {
    const { body } = await call(service, 'GET', `conversation?status=${status}`);
    assert.deepEqual(
      (body['items'] as Body[]).map((item) => item['session_id']),
      ids,
    );
  }
  assert.equal((await next(service, 'young', scripted([{ text: 'Yes.' }]))).body['success'], true);
  const again = await call(service, 'POST', 'conversation/start?session_id=old', { prompt: 'x' });
  assert.deepEqual([again.status, again.body['code']], [409, 'conversation_exists']);
  // Its past can begin another one.
  assert.equal((await call(service, 'POST', 'conversation/old/fork', { session_id: 'new' })).status, 200);
  assert.equal((await next(service, 'new', scripted([{ text: 'Here.' }], 'in the fork'))).body['success'], true);
  assert.match(JSON.stringify(callsWith(service, 'in the fork').at(-1)?.body), /Written\./u);
});

test('when it ends its followers are told, and its process is gone', async (context) => {
  const service = await restartable(context);
  await start(service, 'idle');
  const claude = async () => (await processesWith(service.runDir)).filter(({ command }) => command.includes('claude'));
  assert.ok((await claude()).length > 0, 'the process waits for the next turn');
  const headers = { authorization: `Bearer ${userKey}` };
  const followed = await fetch(`${service.url}/api/claude/conversation/idle/events`, { headers });
  age(service, 'idle', hour + 1000);
  // The next sweep comes within half a minute.
  assert.match(await followed.text(), /\ndata: \[DONE\]\n\n$/u);
  await until(async () => (await claude()).length === 0);
  assert.equal(stored(service, 'idle'), 'ended');
});

test('it does not end while a turn runs or waits', async (context) => {
  const service = await restartable(context);
  await start(service, 'runs');
  const slow = scripted([{ text: 'word '.repeat(40), rate: 10 }], 'slow turn');
  const lost = next(service, 'runs', slow).catch(() => null);
  await until(() => callsWith(service, 'slow turn').length === 1);
  const body = { prompt: scripted([write('a.txt', 'a'), { text: 'Made.' }]) };
  const asked = call(service, 'POST', 'conversation/start?session_id=waits', body).catch(() => null);
  const approval = await pendingIn(service, 'waits');
  await service.kill();
  for (const id of ['runs', 'waits']) age(service, id, 40 * day);
  await service.start();
  await Promise.all([lost, asked]);
  assert.equal(await statusOf(service, 'waits'), 'waiting');
  await decide(service, approval, { decision: 'allow' });
  for (const id of ['runs', 'waits']) {
    assert.equal((await logAtRest(service, id)).at(-1)?.['stop_reason'], 'end_turn', id);
    assert.equal((await next(service, id, scripted([{ text: 'On.' }]))).body['success'], true);
  }
});

test('past its retention nothing is left but its id', async (context) => {
  const service = await restartable(context, { env: { SALLYPORT_RETENTION_DAYS: '2' } });
  await start(service, 'gone', [write('a.txt', 'alpha'), { text: 'Written.' }]);
  await start(service, 'stays', [write('b.txt', 'beta'), { text: 'Written.' }]);
  const asked = call(service, 'POST', 'conversation/start?session_id=asked', {
    prompt: scripted([write('c.txt', 'c')]),
  });
  const approval = await pendingIn(service, 'asked');
  await decide(service, approval, { decision: 'deny' });
  await asked;
  const session = (id: string) =>
    rows(service, 'select sdk_session as s from conversations where id = ?', id)[0]?.['s'];
  const transcript = (id: string) => rows(service, 'select 1 from transcripts where session = ?', session(id)).length;
  assert.ok(transcript('gone') > 0);
  const keptBefore = await kept(service);
  await service.kill();
  // The hour of its life, and then the days.
  for (const id of ['gone', 'asked']) age(service, id, 2 * day + hour + 1000);
  age(service, 'stays', 2 * day + hour - 600_000);
  await service.start();
  await until(() => stored(service, 'gone') === 'gone' && stored(service, 'asked') === 'gone');
  for (const [method, path, body] of [
    ['GET', 'gone/info'],
    ['GET', 'gone/messages'],
    ['GET', 'gone/events'],
    ['GET', 'gone/events?follow=false'],
    ['GET', 'gone/diff'],
    ['GET', 'gone/files'],
    ['GET', 'gone/files/a.txt'],
    ['GET', 'gone/files.zip'],
    ['POST', 'gone/continue', { session_id: 'gone', message: 'x' }],
    ['POST', 'gone/interrupt'],
    ['POST', 'gone/fork', {}],
    ['DELETE', 'gone'],
  ] as const) {
    const answer = await call(service, method, `conversation/${path}`, body);
    assert.deepEqual([answer.status, answer.body['code']], [410, 'gone'], path);
  }
  assert.equal((await call(service, 'GET', `approvals/${approval['approval_id']}`)).status, 404);
  for (const id of ['gone', 'asked']) {
    assert.equal(transcript(id), 0);
    for (const table of ['events', 'turns', 'images']) {
      assert.deepEqual(rows(service, `select 1 from ${table} where conversation = ?`, id), [], table);
    }
  }
  assert.equal(await kept(service), keptBefore - 2);
  assert.ok(!JSON.stringify(rows(service, "select * from conversations where id = 'gone'")).includes('forgotten'));
  assert.ok(rows(service, "select 1 from usage where conversation = 'gone'").length > 0, 'what was spent is kept');
  const taken = await call(service, 'POST', 'conversation/start?session_id=gone', { prompt: 'x' });
  assert.deepEqual([taken.status, taken.body['code']], [409, 'conversation_exists']);
  const onto = await call(service, 'POST', 'conversation/stays/fork', { session_id: 'gone' });
  assert.deepEqual([onto.status, onto.body['code']], [409, 'conversation_exists']);
  const listed = (await call(service, 'GET', 'conversation')).body['items'] as Body[];
  assert.deepEqual(
    listed.map((item) => item['session_id']),
    ['stays'],
  );
  assert.equal((await call(service, 'GET', 'conversation/stays/files')).body['items'][0].path, 'b.txt');
  assert.equal((await call(service, 'GET', 'conversation/stays/messages')).status, 200);
});
