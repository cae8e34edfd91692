import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultBounds, operations, type Operation } from '@sallyport/protocol';
import { administer, makeKey } from '../support/admin.ts';
import { rows, until } from '../support/runs.ts';
import { startService, type TestService } from '../support/service.ts';

const guarded = Object.values<Operation>(operations(defaultBounds)).filter(({ right }) => right !== 'public');

/** All that is stored, but for the audit log, where those who were refused are told of. */
function stored(service: TestService): string {
  const tables = rows(service, "select name from sqlite_master where type = 'table' order by name");
  const counted = tables.map(({ name }) => String(name)).filter((name) => !/^(audit|sqlite_|kysely)/u.test(name));
  return JSON.stringify(counted.map((name) => [name, rows(service, `select * from "${name}"`)]));
}

test('a key that is not valid any more, or not yet known, reaches no route', { timeout: 120_000 }, async () => {
  const service = await startService();
  try {
    const revoked = await makeKey(service, { name: 'revoked', role: 'admin' });
    const rotated = await makeKey(service, { name: 'rotated', role: 'admin' });
    const expired = await makeKey(service, { name: 'expired', role: 'admin', expires_in: 1 });
    const dead = [revoked, rotated, expired];
    const asAdmin = (key: string) =>
      fetch(`${service.url}/api/admin/tenants`, { headers: { authorization: `Bearer ${key}` } });
    assert.deepEqual(await Promise.all(dead.map(async (key) => (await asAdmin(key)).status)), [200, 200, 200]);
    await administer(service, 'DELETE', 'tenants/default/keys/revoked');
    const fresh = await administer(service, 'POST', 'tenants/default/keys/rotated/rotate', { overlap: 0 });
    await until(async () => (await asAdmin(expired)).status === 401);
    assert.equal((await asAdmin(fresh['secret'] as string)).status, 200);
    const before = stored(service);
    const strangers = [...dead, fresh['secret'].slice(0, -1), `${fresh['secret']}A`, 'sallyport_'];
    for (const operation of guarded) {
      const url = `${service.url}${operation.path.replaceAll(/\{\w+(\.\.\.)?\}/gu, 'x')}`;
      for (const key of strangers) {
        const response = await fetch(url, {
          method: operation.method,
          headers: { authorization: `Bearer ${key}`, ...(operation.body && { 'content-type': 'application/json' }) },
          ...(operation.body && { body: '{}' }),
        });
        const { code } = (await response.json()) as { code: string };
        assert.deepEqual([response.status, code], [401, 'invalid_key'], `${operation.id} ${key.slice(0, 14)}`);
        assert.equal(response.headers.get('www-authenticate'), 'Bearer');
      }
    }
    assert.equal(stored(service), before, 'and changes nothing');
    assert.equal(service.simulator.requests.length, 0);
  } finally {
    await service.close();
  }
});
