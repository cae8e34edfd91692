import assert from 'node:assert/strict';
import { test } from 'node:test';
import { admin, auditLines } from '../support/admin.ts';
import { call } from '../support/approvals.ts';
import { scripted, until } from '../support/runs.ts';
import { masterKey, startService, upstreamKey, userKey } from '../support/service.ts';

const limit = { timeout: 120_000 };

test('an admin sees each process while it runs and while it waits, with its conversation', limit, async () => {
  const service = await startService();
  try {
    const listed = async () => (await admin(service, 'GET', 'processes')).body['items'] as Record<string, any>[];
    assert.deepEqual(await listed(), []);
    const prompt = scripted([{ text: 'word '.repeat(60), rate: 20 }]);
    const answer = call(service, 'POST', 'conversation/start?session_id=seen', { prompt, permission_mode: 'readOnly' });
    await until(async () => (await listed())[0]?.['state'] === 'running');
    const [running] = await listed();
    const { process_id: id, pid, tenant, session_id, model, permission_mode } = running ?? {};
    assert.deepEqual([tenant, session_id, permission_mode], ['default', 'seen', 'readOnly']);
    assert.equal(model, 'sallyport-simulator');
    assert.ok(service.sallyport.processes().some((each) => each.id === id && each.pid === pid));
    await answer;
    await until(async () => (await listed())[0]?.['state'] === 'idle');
    assert.equal((await listed())[0]?.['process_id'], id);
    await call(service, 'DELETE', 'conversation/seen');
    await until(async () => (await listed()).length === 0);
  } finally {
    await service.close();
  }
});

test('an admin sees the settings in force, without secrets, under the name that the audit log has', limit, async () => {
  const service = await startService();
  try {
    const { body } = await admin(service, 'GET', 'settings');
    const text = JSON.stringify(body);
    for (const secret of [masterKey, userKey, upstreamKey]) assert.ok(!text.includes(secret));
    const valueOf = (name: string) =>
      (body['items'] as Record<string, any>[]).find(({ variable }) => variable === name)?.['value'];
    assert.deepEqual(
      [valueOf('SALLYPORT_DEFAULT_MODEL'), valueOf('ANTHROPIC_API_KEY')],
      ['sallyport-simulator', 'set'],
    );
    const [begun] = await auditLines(service);
    assert.equal(begun?.['details'].configuration, body['configuration']);
    for (const path of ['settings', 'processes']) {
      assert.equal((await admin(service, 'GET', path, undefined, userKey)).status, 403);
    }
  } finally {
    await service.close();
  }
});
