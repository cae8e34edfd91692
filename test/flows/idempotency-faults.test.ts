import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Step } from '@sallyport/simulator';
import { giveToProjectUser } from '../support/commands.ts';
import { ask, newWord, turnsOf } from '../support/idempotency.ts';
import { restartable } from '../support/restart.ts';
import { callsWith, eventsIn, joined, rows, scripted, turnState, until } from '../support/runs.ts';
import { startService, userKey } from '../support/service.ts';
import { change } from '../support/stored.ts';

const steps: readonly Step[] = [
  { text: 'I look. ', tools: [{ name: 'Glob', input: { pattern: '*' } }] },
  { text: 'Nothing there.' },
];

test('a request for which nothing ran may be sent again under its key', async () => {
  const crowded = await startService({ env: { SALLYPORT_MAX_PROCESSES: '1', SALLYPORT_MAX_WAITING: '0' } });
  try {
    const start = { path: 'conversation/start?session_id=c', body: { prompt: scripted([{ text: 'Hi.' }]) } };
    assert.equal((await ask(crowded, { ...start, key: 'start' })).status, 200);
    const slow = newWord();
    const abort = new AbortController();
    const prompt = scripted([{ text: 'endless '.repeat(400), rate: 10 }], slow);
    const running = assert.rejects(ask(crowded, { path: 'query', body: { prompt }, key: slow, signal: abort.signal }));
    await until(() => callsWith(crowded, slow).length === 1);
    const waiting = Object.entries({
      query: { path: 'query', body: { prompt: scripted(steps) } },
      stream: { path: 'stream', body: { prompt: scripted(steps) } },
      start: { path: 'conversation/start?session_id=d', body: { prompt: scripted(steps) } },
      continue: { path: 'conversation/c/continue', body: { session_id: 'c', message: scripted(steps) } },
    }).map(([key, asking]) => ({ ...asking, key: `again-${key}` }));
    for (const asking of waiting) {
      for (let time = 0; time < 2; time += 1) {
        const { status, body, replayed } = await ask(crowded, asking);
        assert.deepEqual([status, body['code'], replayed], [503, 'overloaded', null], asking.path);
      }
    }
    abort.abort();
    await running;
    const listed = rows(crowded, "select id from conversations where kind = 'query'")[0]?.['id'];
    await fetch(`${crowded.url}/api/claude/conversation/${listed}/interrupt`, {
      method: 'POST',
      headers: { authorization: `Bearer ${userKey}` },
    });
    for (const asking of waiting) {
      const { status, replayed, text } = await ask(crowded, asking);
      assert.deepEqual([status, replayed], [200, null], text);
      assert.equal((await ask(crowded, asking)).replayed, 'true');
    }
    const project = join(crowded.root, 'later');
    const asking = { path: 'query', body: { prompt: scripted(steps), project_path: project }, key: 'later' };
    assert.deepEqual((await ask(crowded, asking)).body['code'], 'path_not_allowed');
    await mkdir(project);
    await giveToProjectUser(project);
    assert.deepEqual([(await ask(crowded, asking)).status, (await ask(crowded, asking)).replayed], [200, 'true']);
  } finally {
    await crowded.close();
  }
});

test('a run whose server is killed goes on under its key, and is the only one', async (context) => {
  const killed = await restartable(context);
  const text = 'One word after the other. '.repeat(8);
  for (const path of ['query', 'stream', 'conversation/start']) {
    const word = newWord();
    const asking = { path, body: { prompt: scripted([{ text, rate: 40 }], word) }, key: word };
    const lost = assert.rejects(ask(killed, asking));
    await until(() => callsWith(killed, word).length === 1);
    await killed.killAndRestart();
    await lost;
    let answer = await ask(killed, asking);
    for (; answer.status === 409; answer = await ask(killed, asking)) {
      assert.equal(answer.body['code'], 'idempotency_in_progress');
      await until(() => turnState(killed, word) !== 'running');
    }
    assert.deepEqual([answer.status, answer.replayed], [200, 'true'], answer.text);
    const said = path === 'stream' ? joined({ events: eventsIn(answer.text) }) : answer.body['messages'].at(-1).content;
    assert.equal(said, text);
    assert.equal(turnsOf(killed, word), 1);
  }
});

test('after a day a key is free again', async (context) => {
  const old = await restartable(context);
  const word = newWord();
  const asking = { path: 'query', body: { prompt: scripted(steps, word) }, key: word };
  assert.equal((await ask(old, asking)).status, 200);
  const day = 86_400_000;
  await old.kill();
  change(old, 'update claims set expires_at = expires_at - ?', day - 600_000);
  await old.start();
  assert.equal((await ask(old, asking)).replayed, 'true');
  await old.kill();
  change(old, 'update claims set expires_at = expires_at - ?', 600_000);
  await old.start();
  assert.equal((await ask(old, asking)).replayed, null);
  assert.equal(turnsOf(old, word), 2);
});

test('an answer that cannot be read back is an error, and can be had later', async () => {
  let broken = false;
  const failing = await startService({
    stores: (stores) => ({
      ...stores,
      turns: {
        ...stores.turns,
        read: async (...args) => {
          if (broken) throw new Error('the store failed');
          return await stores.turns.read(...args);
        },
      },
    }),
  });
  try {
    for (const path of ['query', 'stream']) {
      const asking = { path, body: { prompt: scripted(steps) }, key: path };
      assert.equal((await ask(failing, asking)).status, 200);
      broken = true;
      const { status, body } = await ask(failing, asking);
      assert.deepEqual([status, body['code']], [500, 'internal']);
      broken = false;
      const { status: later, replayed } = await ask(failing, asking);
      assert.deepEqual([later, replayed], [200, 'true']);
    }
  } finally {
    await failing.close();
  }
});
