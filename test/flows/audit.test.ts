import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import { join } from 'node:path';
import { test } from 'node:test';
import { call, decide, pendingIn } from '../support/approvals.ts';
import { restartable } from '../support/restart.ts';
import { scripted } from '../support/runs.ts';
import { masterKey, runProgram, userKey } from '../support/service.ts';

type Line = Record<string, any>;

test('every tool call has its line before it runs and one after it, with who decided, and the chain is whole', async (context) => {
  const service = await restartable(context);
  const secret = 'canary-content-of-a-file';
  const prompt = scripted([
    { tools: [{ name: 'Read', input: { file_path: '/etc/passwd' } }] },
    { tools: [{ name: 'Write', input: { file_path: '/workspace/a.txt', content: secret } }] },
    { text: 'Done.' },
  ]);
  const answer = call(service, 'POST', 'conversation/start?session_id=seen', { prompt });
  await decide(service, await pendingIn(service, 'seen'), { decision: 'allow' });
  assert.equal((await answer).body['success'], true);
  await call(service, 'DELETE', 'conversation/seen');

  const read = (key: string) =>
    fetch(`${service.url}/api/admin/audit?limit=1000`, { headers: { authorization: `Bearer ${key}` } });
  assert.equal((await read(userKey)).status, 403);
  const text = await (await read(masterKey)).text();
  assert.ok(!text.includes(secret), 'inputs are named by their hash');
  const { items } = JSON.parse(text) as { items: Line[] };
  assert.deepEqual(
    items.map(({ seq }) => seq),
    items.map((_, index) => index + 1),
  );
  assert.deepEqual(
    items.map(({ action, actor }) => [action, actor]),
    [
      ['service.start', 'service'],
      ['auth.accepted', 'key-1'],
      ['tool.denied', 'key-1'],
      ['approval.allowed', 'key-1'],
      ['tool.start', 'key-1'],
      ['tool.end', 'key-1'],
      ['conversation.delete', 'key-1'],
      ['auth.forbidden', 'key-1'],
      ['auth.accepted', 'master'],
      ['admin.read', 'master'],
    ],
  );
  const [begun, , , allowed, started, ended] = items;
  assert.equal(started?.['details'].decided_by, 'human:key-1');
  assert.match(begun?.['details'].configuration, /^[0-9a-f]{16}$/u);
  for (const line of items.slice(2, 6)) assert.equal(line['details'].configuration, begun?.['details'].configuration);
  assert.equal(started?.['details'].input_hash, allowed?.['details'].input_hash);
  assert.equal(started?.['subject'], ended?.['subject']);

  const env = {
    SALLYPORT_DATA_DIR: service.dataDir,
    SALLYPORT_PORT: new URL(service.url).port,
    CLAUDE_API_MASTER_KEY: masterKey,
  };
  const verify = async () => {
    const run = runProgram(['audit', 'verify'], env, service.root);
    return { code: await run.exited, said: run.output() };
  };
  const whole = await verify();
  assert.deepEqual([whole.code, /is whole: \d\d lines/u.test(whole.said)], [0, true], whole.said);

  await service.kill();
  const database = new DatabaseSync(join(service.dataDir, 'sallyport.db'));
  database.exec("update audit set actor = 'somebody' where seq = 5");
  database.close();
  await service.start();
  env.SALLYPORT_PORT = new URL(service.url).port;
  const broken = await verify();
  assert.deepEqual([broken.code, /line 5 /u.test(broken.said)], [1, true], broken.said);
});
