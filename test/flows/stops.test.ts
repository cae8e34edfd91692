import assert from 'node:assert/strict';
import { test } from 'node:test';
import { admin, administer, auditLines, makeKey, makeTenant } from '../support/admin.ts';
import { call, logAtRest, pendingIn } from '../support/approvals.ts';
import { restartable } from '../support/restart.ts';
import { callsWith, scripted, until } from '../support/runs.ts';
import { startService, userKey } from '../support/service.ts';

const limit = { timeout: 120_000 };

/** A prompt that goes on for long, reading a file again and again. */
const endless = (word: string) =>
  scripted(
    Array.from({ length: 9 }, () => ({
      text: 'On and on. '.repeat(60),
      rate: 30,
      tools: [{ name: 'Read', input: { file_path: '/workspace/a.txt' } }],
    })),
    word,
  );
const request = (word: string) => ({ prompt: endless(word), max_turns: 10, permission_mode: 'readOnly' });

test(
  'a stop ends what it names at once, refuses what comes, holds over a restart, and is lifted',
  limit,
  async (context) => {
    const service = await restartable(context);
    const other = await makeTenant(service, 'other');
    const second = await makeKey(service, { name: 'second' });
    const start = (id: string, word: string, key?: string) =>
      call(service, 'POST', `conversation/start?session_id=${id}`, request(word), key);
    const names = { a: 'default', b: 'default', c: 'other' };
    const scopes = [
      { stop: { scope: 'conversation', tenant: 'default', conversation: 'a-0' }, ends: ['a'] },
      { stop: { scope: 'key', tenant: 'default', key: 'second' }, ends: ['b'] },
      { stop: { scope: 'tenant', tenant: 'default' }, ends: ['a', 'b'] },
      { stop: { scope: 'all' }, ends: ['a', 'b', 'c'] },
    ];
    const keys = { a: userKey, b: second, c: other };
    for (const [round, { stop, ends }] of scopes.entries()) {
      const turns = (['a', 'b', 'c'] as const).map((name) => ({
        name,
        id: `${name}-${round}`,
        answer: start(`${name}-${round}`, `word-${name}-${round}`, keys[name]),
      }));
      await until(() => turns.every(({ name }) => callsWith(service, `word-${name}-${round}`).length > 0));
      const made = await administer(service, 'POST', 'stops', { ...stop, reason: 'a drill' });
      for (const { name, answer, id } of turns) {
        if (ends.includes(name)) {
          const { body } = await answer;
          assert.deepEqual([body['stop_reason'], body['success']], ['interrupted', false], `${name} ${round}`);
          assert.equal(body['error'], 'The run was stopped by an admin.');
          const seen = callsWith(service, `word-${name}-${round}`).length;
          const refused = await call(
            service,
            'POST',
            `conversation/${id}/continue`,
            { session_id: id, message: 'On.' },
            keys[name],
          );
          assert.deepEqual([refused.status, refused.body['code']], [403, 'stopped']);
          assert.equal((await call(service, 'GET', `conversation/${id}/messages`, undefined, keys[name])).status, 200);
          assert.equal(callsWith(service, `word-${name}-${round}`).length, seen, 'no further call of the model');
        } else {
          const info = await call(service, 'GET', `conversation/${id}/info`, undefined, keys[name]);
          assert.equal(info.body['status'], 'running', `${name} ${names[name]} ${round}`);
          await call(service, 'POST', `conversation/${id}/interrupt`, undefined, keys[name]);
          await answer;
        }
      }
      const fork = await call(service, 'POST', `conversation/a-${round}/fork`, { session_id: `fork-${round}` });
      assert.equal(fork.status, ends.includes('a') ? 403 : 200, 'a fork is no way around it');
      if (stop.scope === 'all') await service.killAndRestart();
      const listed = await admin(service, 'GET', 'stops');
      assert.deepEqual(listed.body['items'], [made]);
      const again = await call(service, 'POST', 'query', { prompt: 'Hello.' }, keys.c);
      assert.equal(again.status, stop.scope === 'all' ? 403 : 200, JSON.stringify(again.body));
      await administer(service, 'DELETE', `stops/${made['stop_id']}`);
      for (const name of ['a', 'b', 'c'] as const) {
        const goesOn = await call(service, 'POST', 'query', { prompt: 'Hello.' }, keys[name]);
        assert.equal(goesOn.status, 200, JSON.stringify(goesOn.body));
      }
    }
    assert.equal((await admin(service, 'DELETE', 'stops/stop-unknown')).body['code'], 'stop_not_found');
    const lines = await auditLines(service);
    const told = lines.filter(({ action }) => String(action).startsWith('stop.'));
    assert.deepEqual(
      told.map(({ action, actor }) => [action, actor]),
      scopes.flatMap(() => [
        ['stop.add', 'master'],
        ['stop.lift', 'master'],
      ]),
    );
  },
);

test('a stopped turn that waits for a human ends, and its approval lets nothing run', limit, async () => {
  const service = await startService();
  try {
    const write = { tools: [{ name: 'Write', input: { file_path: '/workspace/a.txt', content: 'x' } }] };
    const answer = call(service, 'POST', 'conversation/start?session_id=waits', {
      prompt: scripted([write, { text: 'Done.' }]),
    });
    const approval = await pendingIn(service, 'waits');
    await administer(service, 'POST', 'stops', { scope: 'key', tenant: 'default', key: 'key-1' });
    assert.equal((await answer).body['stop_reason'], 'interrupted');
    const late = await call(service, 'POST', `approvals/${approval['approval_id']}`, { decision: 'allow' });
    assert.deepEqual([late.status, late.body['code']], [409, 'already_decided']);
    const log = await logAtRest(service, 'waits');
    assert.ok(!log.some(({ type }) => type === 'tool_start'));
  } finally {
    await service.close();
  }
});

test('a turn that the service was killed in does not go on when it was stopped meanwhile', limit, async (context) => {
  const service = await restartable(context, { env: { SALLYPORT_APPROVAL_HOLD: '0' } });
  const write = { tools: [{ name: 'Write', input: { file_path: '/workspace/a.txt', content: 'x' } }] };
  void call(service, 'POST', 'conversation/start?session_id=killed', {
    prompt: scripted([write, { text: 'Done.' }], 'word-killed'),
  }).catch(() => undefined);
  const approval = await pendingIn(service, 'killed');
  const seen = callsWith(service, 'word-killed').length;
  const { stop_id } = await administer(service, 'POST', 'stops', {
    scope: 'conversation',
    tenant: 'default',
    conversation: 'killed',
  });
  await service.killAndRestart();
  const log = await logAtRest(service, 'killed');
  assert.equal(log.at(-1)?.['stop_reason'], 'interrupted');
  await administer(service, 'DELETE', `stops/${stop_id}`);
  assert.equal(
    (await call(service, 'POST', `approvals/${approval['approval_id']}`, { decision: 'allow' })).status,
    409,
  );
  assert.equal(callsWith(service, 'word-killed').length, seen);
});

test('a stop that is not well named is refused, and only an admin stops', limit, async () => {
  const service = await startService();
  try {
    const bad = [
      {},
      { scope: 'all', tenant: 'default' },
      { scope: 'tenant' },
      { scope: 'key', tenant: 'default' },
      { scope: 'conversation', tenant: 'default', key: 'key-1', conversation: 'x' },
      { scope: 'everything' },
    ];
    for (const body of bad) {
      assert.equal((await admin(service, 'POST', 'stops', body)).status, 422, JSON.stringify(body));
    }
    for (const role of ['user', 'operator', 'viewer']) {
      const key = await makeKey(service, { role });
      assert.equal((await admin(service, 'POST', 'stops', { scope: 'all' }, key)).body['code'], 'forbidden');
      assert.equal((await admin(service, 'GET', 'stops', undefined, key)).status, 403);
    }
    assert.deepEqual((await admin(service, 'GET', 'stops')).body['items'], []);
  } finally {
    await service.close();
  }
});
