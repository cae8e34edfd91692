import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Step } from '@sallyport/simulator';
import { administer, makeKey } from '../support/admin.ts';
import { call } from '../support/approvals.ts';
import { restartable } from '../support/restart.ts';
import { callsWith, rows, scripted, until } from '../support/runs.ts';
import { masterKey, query, startService } from '../support/service.ts';
import { change } from '../support/stored.ts';

const limit = { timeout: 120_000 };
const slow: Step = { text: 'Slowly told. '.repeat(200), rate: 20 };
const path = '/api/claude/conversation/start?session_id=lost';

/** State and error of the turn; null while it runs. */
function endOf(service: { dataDir: string }): [string, string] | null {
  const [turn] = rows(service, "select state, result from turns where conversation = 'lost'");
  return turn?.['result'] ? [turn['state'], JSON.parse(turn['result']).error] : null;
}

test('a running turn ends when the key that owns it is revoked', limit, async (context) => {
  const service = await startService();
  context.after(() => service.close());
  const key = await makeKey(service, { name: 'lent' });
  const other = await makeKey(service, { name: 'other' });
  const running = query(service, { prompt: scripted([slow, slow], 'lent-') }, { key, path });
  const beside = query(
    service,
    { prompt: scripted([{ text: 'Told. '.repeat(50), rate: 20 }], 'beside-') },
    { key: other },
  );
  await until(() => callsWith(service, 'lent-').length === 1 && callsWith(service, 'beside-').length === 1);
  await administer(service, 'DELETE', 'tenants/default/keys/lent');
  await running;
  await until(() => endOf(service) !== null);
  assert.deepEqual(endOf(service), ['interrupted', 'The run was stopped because its key is not valid any more.']);
  assert.equal(callsWith(service, 'lent-').length, 1);
  assert.equal((await beside).body['success'], true, 'the turn of another key goes on');
});

test('a turn that was lost does not go on when its key was revoked meanwhile', limit, async (context) => {
  const service = await restartable(context);
  const key = await makeKey(service, { name: 'lent' });
  const lost = assert.rejects(query(service, { prompt: scripted([slow, slow], 'lent-') }, { key, path }));
  await until(() => callsWith(service, 'lent-').length === 1);
  await service.kill();
  await lost;
  change(service, "update keys set revoked_at = 1, changed_at = 1 where name = 'lent'");
  await service.start();
  const { body } = await call(service, 'GET', 'conversation/lost/info', undefined, masterKey);
  assert.equal(body['status'], 'idle');
  assert.deepEqual(endOf(service), ['interrupted', 'The run was cut because the service ended.']);
  assert.equal(callsWith(service, 'lent-').length, 1);
});

test(
  'a running turn ends when it cannot be found out for long whether its key is valid, and does not blame the key',
  limit,
  async (context) => {
    let fails = false;
    const service = await startService({
      stores: (stores) => ({
        ...stores,
        keys: {
          ...stores.keys,
          changedSince: (at) => (fails ? Promise.reject(new Error('the store failed')) : stores.keys.changedSince(at)),
        },
      }),
    });
    context.after(() => service.close());
    const key = await makeKey(service, { name: 'lent' });
    const running = query(service, { prompt: scripted([slow, slow], 'lent-') }, { key, path });
    await until(() => callsWith(service, 'lent-').length === 1);
    fails = true;
    const { status, body } = await running;
    assert.deepEqual([status, body['code']], [503, 'not_ready']);
    await until(() => endOf(service) !== null);
    const [state, error = ''] = endOf(service) ?? [];
    assert.equal(state, 'failed');
    assert.match(error, /cannot work at the moment/u);
  },
);
