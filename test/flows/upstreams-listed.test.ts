import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { startSimulator } from '@sallyport/simulator';
import { admin, makeKey } from '../support/admin.ts';
import { masterKey, query, runProgram, startService } from '../support/service.ts';

const limit = { timeout: 120_000 };
const secrets = ['canary-key-one', 'canary-key-two', 'canary-key-three'];

test('an admin sees the upstreams and which key is put aside, without secrets', limit, async (t) => {
  // A wait that outlasts the test.
  const limited = { kind: 'status', status: 429, retry_after: 3000 } as const;
  const other = await startSimulator({ script: { steps: [{ text: 'From the other one.' }] } });
  t.after(() => other.close());
  const first = await startSimulator({ script: () => ({ text: 'Never said.', fault: limited }) });
  t.after(() => first.close());
  const [one, two, three] = secrets;
  const service = await startService({
    env: {
      ANTHROPIC_API_KEY: '',
      SALLYPORT_UPSTREAMS: JSON.stringify([
        { name: 'main', base_url: first.url, keys: [one] },
        { name: 'spare', base_url: other.url, keys: [two, three], max_concurrent: 7 },
      ]),
    },
  });
  t.after(() => service.close());
  const listed = async () => (await admin(service, 'GET', 'upstreams')).body['items'] as Record<string, any>[];
  const ready = (name: string) => ({ name, state: 'ready', code: null, until: null });
  const closed = { state: 'closed', until: null, calls: 0 };
  const spare = { ...closed, name: 'spare', max_calls: 7, keys: [ready('key-1'), ready('key-2')] };

  const [main, ...rest] = await listed();
  assert.deepEqual([main?.['name'], main?.['keys'], rest], ['main', [ready('key-1')], [spare]]);
  assert.equal((await query(service, { prompt: 'Hello', timeout: 100 })).status, 200);
  const after = await admin(service, 'GET', 'upstreams');
  const [aside] = after.body['items'][0].keys;
  assert.deepEqual([aside.name, aside.state, aside.code], ['key-1', 'aside', 'upstream_rate_limited']);
  assert.ok(Date.parse(aside.until) > Date.now());
  assert.deepEqual(after.body['items'], [{ ...main, keys: [aside] }, spare]);

  const env = { CLAUDE_API_MASTER_KEY: masterKey, SALLYPORT_PORT: new URL(service.url).port };
  const shown = runProgram(['upstreams'], env, service.root);
  assert.deepEqual(await once(shown.child, 'close'), [0, null], shown.output());
  assert.match(shown.output(), /^main +closed +0 of \d+ +key-1 aside until \S+Z \(upstream_rate_limited\)$/mu);
  assert.match(shown.output(), /^spare +closed +0 of 7 +key-1 ready, key-2 ready$/mu);
  for (const text of [JSON.stringify(after), shown.output()]) {
    for (const secret of [...secrets, first.url, other.url]) assert.ok(!text.includes(secret), text);
  }
  for (const role of ['user', 'operator', 'viewer']) {
    const key = await makeKey(service, { role });
    assert.equal((await admin(service, 'GET', 'upstreams', undefined, key)).status, 403);
  }
});
